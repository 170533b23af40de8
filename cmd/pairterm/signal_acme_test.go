//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/acmetest"
	"github.com/pairterm/pairterm/signal/signaltest"
)

// The self-hosting page, followed with a CA and sockets of the test's own: a
// public server gets its certificate, with an external account binding, says
// when it is ready, leads browsers to https, and takes up its certificate
// again after a restart, when the CA is gone.
func TestSignalACME(t *testing.T) {
	const domain = "signal.example.test"
	var files []*os.File
	var addrs []string
	var ports []int
	for range 2 { // 443 and 80
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		files, addrs, ports = append(files, f), append(addrs, l.Addr().String()), append(ports, l.Addr().(*net.TCPAddr).Port)
		_ = l.Close()
	}
	authority := acmetest.New(t, ports[1], ports[0])

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := []string{
		"LISTEN_FDNAMES=signaling:http",
		"XDG_STATE_HOME=" + dir,
		"SSL_CERT_FILE=" + write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Server.Raw}))),
		"PAIRTERM_ACME_EAB_KID=" + acmetest.KeyID,
		"PAIRTERM_ACME_EAB_KEY_FILE=" + write("eab", base64.RawURLEncoding.EncodeToString(acmetest.Key)+"\n"),
		"PAIRTERM_DOMAIN=" + domain,
	}
	for _, directory := range []string{authority.Directory, "https://127.0.0.1:1/"} {
		p := startSignal(t, append(env, "PAIRTERM_ACME_DIRECTORY="+directory), files, "--stun", "none", "--open")
		p.says(`hosts use it with: pairterm host --signal wss://` + domain)
		p.says(`msg=certificate domain=` + domain)

		trust := &tls.Config{RootCAs: authority.Roots, ServerName: domain}
		opts := &signal.Options{TLS: trust, DialContext: dialTo(addrs[0])}
		host, err := signal.Register(t.Context(), "wss://"+domain, signaltest.NewKey(t), opts)
		if err != nil {
			t.Fatal(err)
		}
		_ = host.Close()
		web := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true, DialContext: dialTo(addrs[1]), DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: trust}).DialContext(ctx, network, addrs[0])
		}}
		get := func(url string) *http.Response {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := web.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp
		}
		for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			resp := get("https://" + domain + "/readyz")
			if resp.StatusCode == http.StatusOK {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("/readyz says %s", resp.Status)
			}
		}
		resp := get("http://" + domain + "/x?y")
		if to := resp.Header.Get("Location"); to != "https://"+domain+"/x?y" {
			t.Errorf("port 80 says %s and leads to %q", resp.Status, to)
		}
		if code := p.end(syscall.SIGTERM); code != 143 {
			t.Errorf("exit status %d", code)
		}
	}
	kept, err := filepath.Glob(dir + "/pairterm/acme/*")
	if err != nil || !strings.Contains(strings.Join(kept, "\n"), domain) {
		t.Errorf("what is kept: %v, %v", kept, err)
	}
	for _, path := range append(kept, filepath.Join(dir, "pairterm/acme")) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is not private: %v, %v", path, info.Mode(), err)
		}
	}
}
