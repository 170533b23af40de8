//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// proxy is how the configuration that we ship for a proxy is tried here: with
// other addresses, and another certificate.
type proxy struct {
	program string
	config  string   // as shipped
	replace []string // old, new; PORT, CERT, KEY and SERVER stand for this test's
	before  string
	after   string
	args    []string // CONFIG stands for the file
	server  []string // what the server behind it is told more
}

var proxies = []proxy{
	{
		program: "caddy",
		config:  "../../signal/deploy/caddy/Caddyfile",
		before:  "{\n\tadmin off\n\tauto_https disable_redirects\n}\n",
		replace: []string{
			"\nsignal.example.org {\n", "\nhttps://localhost:PORT {\n\tbind 127.0.0.1\n\ttls CERT KEY\n",
			" 127.0.0.1:8080 {\n", " SERVER {\n",
		},
		args: []string{"run", "--adapter", "caddyfile", "--config", "CONFIG"},
	},
	{
		program: "nginx",
		config:  "../../signal/deploy/nginx/pairterm.conf",
		before:  "daemon off; master_process off; pid DIR/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;\n",
		replace: []string{
			"    listen 443 ssl;\n    listen [::]:443 ssl;\n", "    listen 127.0.0.1:PORT ssl;\n",
			"server_name signal.example.org;", "server_name localhost;",
			"/etc/letsencrypt/live/signal.example.org/fullchain.pem;", "CERT;",
			"/etc/letsencrypt/live/signal.example.org/privkey.pem;", "KEY;",
			"http://127.0.0.1:8080;", "http://SERVER;",
		},
		after: "}\n",
		args:  []string{"-p", "DIR", "-e", "stderr", "-c", "CONFIG"},
	},
	{
		program: "haproxy",
		config:  "../../signal/deploy/haproxy/haproxy.cfg",
		replace: []string{
			"    bind :::443 v4v6\n", "    bind 127.0.0.1:PORT\n",
			" 127.0.0.1:8443 send", " SERVER send",
		},
		args:   []string{"-db", "-f", "CONFIG"},
		server: []string{"--proxy-protocol", "--tls-cert", "CERT", "--tls-key", "KEY"},
	},
}

// start runs the proxy in front of a server and returns where it is.
func (p proxy) start(t *testing.T, server, cert, key string) (addr string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = l.Close() // a proxy cannot be given a socket; nobody else takes the port this fast
	shipped, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	text := string(shipped)
	for i := 0; i < len(p.replace); i += 2 {
		if strings.Count(text, p.replace[i]) != 1 {
			t.Fatalf("%s has not one %q", p.config, p.replace[i])
		}
		text = strings.Replace(text, p.replace[i], p.replace[i+1], 1)
	}
	config := filepath.Join(dir, "config")
	mine := strings.NewReplacer("PORT", port, "CERT", cert, "KEY", key, "SERVER", server, "CONFIG", config, "DIR", dir)
	if err := os.WriteFile(config, []byte(mine.Replace(p.before+text+p.after)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := make([]string, len(p.args))
	for i, a := range p.args {
		args[i] = mine.Replace(a)
	}
	cmd := exec.Command(p.program, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if ended != nil {
			<-ended
		}
	})
	for late := time.After(30 * time.Second); ; {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return addr
		}
		select {
		case err := <-ended:
			ended = nil
			t.Fatalf("%s: %v\n%s", p.program, err, said.String())
		case <-late:
			t.Fatalf("%s does not listen", p.program)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// localhostCertificate makes files with a certificate for localhost.
func localhostCertificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for path, data := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	return cert, key, roots
}

// dialTo dials the address, whatever it is asked to, from the IPv4 address, if one
// is given.
func dialTo(addr string, from ...byte) func(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	if len(from) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: from}
	}
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	}
}

// The configurations that we ship for proxies, tried: hosts and guests meet
// through them, the server sees where clients come from and believes nothing that
// they say about it, and the page for people names the proxy.
func TestSignalBehindProxies(t *testing.T) {
	cert, key, roots := localhostCertificate(t)
	for _, p := range proxies {
		t.Run(p.program, func(t *testing.T) {
			if _, err := exec.LookPath(p.program); err != nil {
				t.Skipf("%s is not here", p.program)
			}
			args := []string{"--listen", "127.0.0.1:0", "--stun", "none", "--log-format", "json", "--full-addresses",
				"--name", "localhost", "--trusted-proxy", "127.0.0.1", "--open"}
			for _, a := range p.server {
				args = append(args, strings.NewReplacer("CERT", cert, "KEY", key).Replace(a))
			}
			server := startSignal(t, nil, nil, args...)
			addr := p.start(t, server.says(`signaling on (127[0-9.:]+)`)[1], cert, key)
			_, port, _ := net.SplitHostPort(addr)
			from := dialTo(addr, 127, 0, 0, 9)
			opts := &signal.Options{TLS: &tls.Config{RootCAs: roots}, DialContext: from}
			url := "wss://localhost:" + port

			host, err := signal.Register(t.Context(), url, signaltest.NewKey(t), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = host.Close() }()
			server.says(`"msg":"host registered","addr":"127.0.0.9"`)
			guest, _, err := signal.Dial(t.Context(), url, host.Info().Room, opts)
			if err != nil {
				t.Fatal(err)
			}
			pipe, err := host.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, ends := range [][2]net.Conn{{guest, pipe}, {pipe, guest}} {
				if err := signaltest.Transfer(ends[0], ends[1], signaltest.RandomBytes(1000)); err != nil {
					t.Error(err)
				}
			}
			_, _ = guest.Close(), pipe.Close()

			client := &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: from, DisableKeepAlives: true,
			}}
			liar, _, err := websocket.Dial(t.Context(), url+signal.PathHost, &websocket.DialOptions{
				Subprotocols: []string{signal.Subprotocol},
				HTTPClient:   client,
				HTTPHeader:   http.Header{"X-Forwarded-For": {"203.0.113.7"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			_ = liar.CloseNow()
			server.says(`"msg":"host refused","addr":"127.0.0.9"`)

			resp, err := client.Get("https://localhost:" + port + "/")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			page, err := io.ReadAll(resp.Body)
			if want := regexp.QuoteMeta("pairterm host --signal " + url); err != nil || !regexp.MustCompile(want).Match(page) {
				t.Errorf("the page does not say %q but, %v,\n%s", want, err, page)
			}
			if code := server.end(syscall.SIGTERM); code != 143 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}
