package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
	"github.com/pairterm/pairterm/signal/server/cluster"
	"github.com/pairterm/pairterm/signal/stun"
)

func signalCommand(args []string, ui *ui) *cli.Command {
	return &cli.Command{
		Name:      "signal",
		Usage:     "run a signaling server, on a box that both sides can reach",
		ArgsUsage: "[--domain NAME] [--authorized-keys FILE | --open]",
		Description: `  pairterm signal --domain signal.example.org --authorized-keys team
                                  on a public box: gets its certificate by itself
  pairterm signal --listen :443 --tls-cert fullchain.pem --tls-key privkey.pem --open
  pairterm signal --listen 127.0.0.1:8080 --trusted-proxy 127.0.0.1 --open
                                  behind a proxy on the same machine
  pairterm signal --nats tls://nats.example.org --nats-creds FILE …
                                  one of several that act as one

It introduces hosts and guests to each other and answers STUN, so that they can
find a direct path; it sees no terminals, and keeps nothing. Who may host is in
--authorized-keys, which takes what host --allow takes. SIGHUP reads keys and
certificates again; both are also read again when they change. Hosts use it with:
pairterm host --signal wss://YOUR.SERVER …`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "listen on TCP `ADDR`, as host:port or :port (default: :443 with --domain, else :8080)"},
			&cli.StringSliceFlag{Name: "domain", Usage: "be `NAME`, and get a certificate for it by ACME (repeatable)"},
			&cli.StringSliceFlag{Name: "authorized-keys", Usage: "serve the SSH keys of `WHO`: a file, a key line, github:NAME, gitlab:NAME, https://… (repeatable)"},
			&cli.StringFlag{Name: "gate", Value: "hosts", Usage: "`WHO` must have one of these keys: hosts, or all, guests too"},
			&cli.BoolFlag{Name: "open", Usage: "serve everybody, on a public address"},
			&cli.StringSliceFlag{Name: "name", Usage: "insist that clients know this server as `NAME`; --domain does too (repeatable)"},
			&cli.StringFlag{Name: "tls-cert", Usage: "serve TLS with the certificate chain in `FILE` (PEM)"},
			&cli.StringFlag{Name: "tls-key", Usage: "and the private key in `FILE` (PEM)"},
			&cli.StringFlag{Name: "http", Usage: "`ADDR` that redirects to https and answers ACME challenges, or none (default: :80 with --domain, else none)"},
			&cli.StringFlag{Name: "acme-directory", Usage: "the ACME directory `URL` of another CA than Let's Encrypt"},
			&cli.StringFlag{Name: "acme-email", Usage: "mail `ADDRESS` for the CA"},
			&cli.StringFlag{Name: "acme-eab-kid", Usage: "key `ID` of the external account binding that your CA asks for"},
			&cli.StringFlag{Name: "acme-eab-key-file", Usage: "and the `FILE` with its key (base64url)"},
			&cli.StringSliceFlag{Name: "trusted-proxy", Usage: "believe the X-Forwarded-For of proxies in `CIDR` (repeatable)"},
			&cli.BoolFlag{Name: "proxy-protocol", Usage: "trusted proxies begin every connection with a PROXY protocol header, version 2"},
			&cli.StringFlag{Name: "stun", Value: ":" + strconv.Itoa(stun.DefaultPort), Usage: "answer STUN on UDP `ADDR` and the port after it, or \"none\""},
			&cli.StringFlag{Name: "stun-public", Usage: "tell clients that STUN is at `HOST:PORT,PORT`, where that is not at this server's name and ports"},
			&cli.StringSliceFlag{Name: "nats", Usage: "act as one with all servers that are connected to NATS at `URL` (repeatable)"},
			&cli.StringFlag{Name: "nats-name", Value: cluster.DefaultName, Usage: "`NAME` of this cluster of servers in NATS, which its subjects begin with"},
			&cli.StringFlag{Name: "nats-secret-file", Usage: "`FILE` with a secret that only these servers share (default: made of their credentials)"},
			&cli.StringFlag{Name: "nats-creds", Usage: "credentials for NATS: `FILE` with a user JWT and its seed"},
			&cli.StringFlag{Name: "nats-nkey", Usage: "or `FILE` with the seed of an nkey"},
			&cli.StringFlag{Name: "nats-user", Usage: "or user `NAME`"},
			&cli.StringFlag{Name: "nats-password-file", Usage: "and `FILE` with its password"},
			&cli.StringFlag{Name: "nats-ca", Usage: "trust the CA certificates in `FILE` (PEM) for NATS"},
			&cli.StringFlag{Name: "nats-cert", Usage: "show NATS the client certificate in `FILE` (PEM)"},
			&cli.StringFlag{Name: "nats-key", Usage: "and its private key in `FILE` (PEM)"},
			&cli.StringFlag{Name: "metrics", Usage: "serve metrics for Prometheus on `ADDR`, at /metrics"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "log in this `FORMAT`: text or json"},
			&cli.BoolFlag{Name: "full-addresses", Usage: "log clients' addresses in full instead of shortened"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log every connection"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 && unquotedKey(c.StringSlice("authorized-keys")...) {
				return usage(quoteKeyHint, "what is %q?", c.Args().First())
			}
			if c.NArg() > 0 {
				return usage("see: pairterm signal --help", "what is %q?", c.Args().First())
			}
			o, err := signalOptionsOf(c, args)
			if err != nil {
				return err
			}
			return runSignal(c.Context, ui, o)
		},
	}
}

func signalOptionsOf(c *cli.Context, args []string) (signalOptions, error) {
	o := signalOptions{
		listen:  c.String("listen"),
		http:    c.String("http"),
		stun:    c.String("stun"),
		metrics: c.String("metrics"),
		cert:    c.String("tls-cert"),
		key:     c.String("tls-key"),
		acme: acmeOptions{
			directory:  c.String("acme-directory"),
			email:      c.String("acme-email"),
			eabKeyID:   c.String("acme-eab-kid"),
			eabKeyFile: c.String("acme-eab-key-file"),
		},
		keys:    c.StringSlice("authorized-keys"),
		open:    c.Bool("open"),
		full:    c.Bool("full-addresses"),
		verbose: c.Bool("verbose"),
	}
	for _, d := range splitWords(c.StringSlice("domain")) {
		d = strings.ToLower(strings.TrimSuffix(d, "."))
		if _, err := netip.ParseAddr(d); err == nil || !strings.Contains(d, ".") || strings.ContainsAny(d, ":/*") {
			return o, usage("for example: --domain signal.example.org", "--domain %q is not a domain name", d)
		}
		o.domains = append(o.domains, d)
	}
	for _, n := range append(o.domains, splitWords(c.StringSlice("name"))...) {
		if _, err := signal.ParseURL("wss://" + n); err != nil {
			return o, usage("for example: --name signal.example.org", "--name %q is no host name", n)
		}
		o.names = append(o.names, signal.ServerName(n))
	}
	switch {
	case o.listen != "":
	case len(o.domains) > 0:
		o.listen = ":443"
	default:
		o.listen = ":8080"
	}
	switch {
	case o.http != "" && o.http != "none" && len(o.domains) == 0 && o.cert == "":
		return o, usage("see: pairterm signal --help", "--http redirects to https, which takes --domain or --tls-cert")
	case o.http != "":
	case len(o.domains) > 0:
		o.http = ":80"
	default:
		o.http = "none"
	}
	switch c.String("gate") {
	case "hosts":
	case "all":
		o.guests = true
	default:
		return o, usage("--gate hosts, or --gate all", "--gate %q", c.String("gate"))
	}
	switch c.String("log-format") {
	case "text":
	case "json":
		o.json = true
	default:
		return o, usage("--log-format text, or --log-format json", "--log-format %q", c.String("log-format"))
	}
	switch {
	case o.open && len(o.keys) > 0:
		return o, usage("leave out one of the two", "--open serves everybody, --authorized-keys only some")
	case o.guests && len(o.keys) == 0:
		return o, usage("add --authorized-keys FILE", "--gate all needs a list of keys")
	case len(o.domains) == 0 && o.acme != acmeOptions{}:
		return o, usage("add --domain NAME", "the --acme flags are about the certificate of a --domain")
	}
	var err error
	if o.proxies, err = parseProxies(splitWords(c.StringSlice("trusted-proxy")), c.Bool("proxy-protocol")); err != nil {
		return o, err
	}
	if o.nats, err = natsOptionsOf(c, args); err != nil {
		return o, err
	}
	o.stunPublic, err = parseSTUNPublic(c.String("stun-public"))
	return o, err
}

func parseProxies(cidrs []string, protocol bool) (p server.Proxies, err error) {
	p.Protocol = protocol
	if protocol && len(cidrs) == 0 {
		return p, usage("add --trusted-proxy CIDR", "--proxy-protocol is about trusted proxies, and none is named")
	}
	for _, s := range cidrs {
		if a, err := netip.ParseAddr(s); err == nil {
			p.Trusted = append(p.Trusted, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return p, usage("for example: --trusted-proxy 10.0.0.0/8", "--trusted-proxy: %w", fmt.Errorf("%q is no address or CIDR", s))
		}
		p.Trusted = append(p.Trusted, prefix.Masked())
	}
	return p, nil
}
