package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/peer/link"
)

// Credentials for TURN servers, where no file has them. There are no such flags: what is
// on a command line everybody on the machine can read.
const (
	envICEUsername = "PAIRTERM_ICE_USERNAME"
	envICEPassword = "PAIRTERM_ICE_PASSWORD"
	envICESecret   = "PAIRTERM_ICE_SECRET"
)

// secretEnvironment is what must not get into a shell in which others type.
var secretEnvironment = []string{envICEUsername, envICEPassword, envICESecret}

// maxCredentials bounds a file of credentials, in bytes.
const maxCredentials = 16 << 10

// relayFlags are the flags of host and join about TURN servers.
func relayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "ice-server", Usage: "where there is no direct path, relay over the TURN server `URL`, turn:HOST:PORT or turns:HOST (repeatable)"},
		&cli.StringFlag{Name: "ice-credentials", Usage: "`FILE` with username= and password=, or secret=, for --ice-server"},
	}
}

const credentialsHint = "put lines username=… and password=… (or secret=…) into a file that only you can read: --ice-credentials FILE"

func parseRelayOptions(c *cli.Context) (servers []link.RelayServer, creds link.RelayCredentials, err error) {
	for _, v := range splitWords(c.StringSlice("ice-server")) {
		s, err := link.ParseRelayServer(v)
		if err != nil && strings.Contains(v, "@") {
			err = errors.New("a server's address has no credentials in it")
			return nil, creds, usage(credentialsHint, "--ice-server: %w", err)
		}
		if err != nil {
			return nil, creds, usage("for example: --ice-server turn:turn.example.org:3478, or turns:turn.example.org", "--ice-server: %w", err)
		}
		servers = append(servers, s)
	}
	if len(servers) == 0 {
		return nil, creds, nil // credentials may be set for all commands
	}
	if path := c.String("ice-credentials"); path != "" {
		creds, err = readCredentials(path)
	} else {
		creds = link.RelayCredentials{
			Username: os.Getenv(envICEUsername),
			Password: os.Getenv(envICEPassword),
			Secret:   os.Getenv(envICESecret),
		}
	}
	if err == nil && creds.Secret == "" && (creds.Username == "" || creds.Password == "") {
		err = usage(credentialsHint, "--ice-server needs a user name and a password, or a secret")
	}
	return servers, creds, err
}

// readCredentials reads a file of lines name=value.
func readCredentials(path string) (link.RelayCredentials, error) {
	var creds link.RelayCredentials
	f, err := os.Open(path)
	if err != nil {
		return creds, fail(exitFile, fmt.Errorf("--ice-credentials: %w", err), "check the name of the file")
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !secret(info) {
		return creds, fail(exitFile, fmt.Errorf("--ice-credentials: %s can be read by others", path), "chmod 600 "+path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil {
		return creds, fail(exitFile, fmt.Errorf("--ice-credentials: %w", err), "check the file")
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "username":
			creds.Username = value
		case "password":
			creds.Password = value
		case "secret":
			creds.Secret = value
		default:
			ok = false
		}
		if !ok {
			return creds, fail(exitFile, fmt.Errorf("--ice-credentials: %s:%d is not username=…, password=… or secret=…", path, n), credentialsHint)
		}
	}
	return creds, nil
}
