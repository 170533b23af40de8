package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/signal/server/cluster"
)

// natsOptions is what the flags about NATS say. Without URLs there is none.
type natsOptions struct {
	cluster.NATS
	name, secretFile string
}

// shortestSecret is how many bytes a --nats-secret-file must have at least: who
// listens in NATS can try all shorter ones.
const shortestSecret = 16

func natsOptionsOf(c *cli.Context, args []string) (natsOptions, error) {
	o := natsOptions{
		NATS: cluster.NATS{
			URLs:      splitWords(c.StringSlice("nats")),
			CredsFile: c.String("nats-creds"),
			NKeyFile:  c.String("nats-nkey"),
			User:      c.String("nats-user"),
			CAFile:    c.String("nats-ca"),
			CertFile:  c.String("nats-cert"),
			KeyFile:   c.String("nats-key"),
		},
		name:       c.String("nats-name"),
		secretFile: c.String("nats-secret-file"),
	}
	passwordFile := c.String("nats-password-file")
	ways := 0
	for _, w := range []string{o.CredsFile, o.NKeyFile, o.User} {
		if w != "" {
			ways++
		}
	}
	switch {
	case len(o.URLs) == 0:
		for _, f := range []string{o.CredsFile, o.NKeyFile, o.User, passwordFile, o.CAFile, o.CertFile, o.KeyFile, o.secretFile} {
			if f != "" {
				return o, usage("add --nats URL", "the --nats flags are about a cluster of servers, and NATS is not named")
			}
		}
		return o, nil
	case ways > 1:
		return o, usage("leave out all but one", "--nats-creds, --nats-nkey and --nats-user are three ways to say who one is")
	case (o.User == "") != (passwordFile == ""):
		return o, usage("--nats-user NAME --nats-password-file FILE", "--nats-user and --nats-password-file go together")
	case (o.CertFile == "") != (o.KeyFile == ""):
		return o, usage("--nats-cert cert.pem --nats-key key.pem", "--nats-cert and --nats-key go together")
	}
	if err := cluster.CheckName(o.name); err != nil {
		return o, usage("for example: --nats-name "+cluster.DefaultName, "--nats-name: %w", err)
	}
	for _, s := range o.URLs {
		if err := cluster.CheckURL(s); err != nil {
			return o, usage("for example: --nats tls://nats.example.org:4222", "--nats: %w", err)
		}
		if u, err := url.Parse(s); err == nil && u.User != nil {
			if ways > 0 {
				return o, usage("leave out one of the two", "--nats names a user, and so does another flag")
			}
			if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, s) }) {
				return o, usage("use --nats-creds, --nats-nkey or --nats-password-file; or put the URL in "+envName("nats"),
					"on the command line everybody on this machine can read the password in --nats %s", u.Redacted())
			}
		}
	}
	if passwordFile != "" {
		o.Password = func() (string, error) {
			b, err := os.ReadFile(passwordFile)
			return strings.TrimRight(string(b), "\r\n"), err
		}
	}
	return o, nil
}

// openCluster makes the replica that o asks for, nil if it asks for none.
func openCluster(so signalOptions, log *slog.Logger) (*cluster.Cluster, error) {
	o := so.nats
	if len(o.URLs) == 0 {
		return nil, nil
	}
	if err := o.Check(); err != nil {
		return nil, fail(natsExit(err), fmt.Errorf("NATS: %w", err), "check the files of --nats-creds, --nats-nkey, --nats-password-file, --nats-ca, --nats-cert and --nats-key")
	}
	secret, err := o.SharedSecret()
	if err != nil {
		return nil, fail(natsExit(err), fmt.Errorf("NATS: %w", err))
	}
	if o.secretFile != "" {
		b, err := os.ReadFile(o.secretFile)
		if err != nil {
			return nil, fail(exitFile, fmt.Errorf("--nats-secret-file: %w", err), "make one with: head -c 32 /dev/urandom | base64 > FILE, and give it to all servers")
		}
		if secret = []byte(strings.TrimSpace(string(b))); len(secret) < shortestSecret {
			return nil, usage("make one with: head -c 32 /dev/urandom | base64 > FILE, and give it to all servers",
				"--nats-secret-file: a secret of %d bytes is too short, it takes %d", len(secret), shortestSecret)
		}
	}
	if len(secret) == 0 {
		log.Warn("the servers share no secret: whoever can reach NATS can pass for one of them; add --nats-secret-file FILE")
	}
	c, err := cluster.New(cluster.Options{NATS: o.NATS, Name: o.name, Secret: secret, Logger: log})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// natsExit is what to exit with for a file that is of no use.
func natsExit(err error) int {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return exitFile
	}
	return exitUsage
}
