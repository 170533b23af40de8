package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/ticket"
)

// namePattern is what the names of sessions and saved tickets look like: also
// good as names of files everywhere.
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

func checkName(flag, name string) error {
	if !namePattern.MatchString(name) {
		return usage("a name has up to 40 lower-case letters, digits, dots and dashes, as in: --"+flag+" work",
			"%q is not a name", name)
	}
	return nil
}

// namedSession is what is kept of a session with a name, so that its ticket
// stays the same when the host is started again.
type namedSession struct {
	Key string `toml:"key"` // seed of the session key, base64
	// Listen is where the embedded signaling server listened, host:port; empty if
	// it never did.
	Listen string `toml:"listen,omitempty"`
}

func namedSessionPath(name string) (string, error) {
	dir, err := keys.StateDir()
	return filepath.Join(dir, "sessions", name+".toml"), err
}

// loadNamedSession returns the session of that name, a new one if there is none.
func loadNamedSession(name string) (namedSession, ed25519.PrivateKey, error) {
	var s namedSession
	path, err := namedSessionPath(name)
	if err != nil {
		return s, nil, err
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return s, nil, err
		}
		s.Key = base64.StdEncoding.EncodeToString(key.Seed())
		return s, key, s.save(name)
	case err != nil:
		return s, nil, err
	}
	if _, err := toml.Decode(string(data), &s); err != nil {
		return s, nil, damagedSession(path, err)
	}
	seed, err := base64.StdEncoding.DecodeString(s.Key)
	if err != nil || len(seed) != ed25519.SeedSize {
		return s, nil, damagedSession(path, errors.New("no session key in it"))
	}
	return s, ed25519.NewKeyFromSeed(seed), nil
}

func damagedSession(path string, err error) error {
	return fail(exitFile, fmt.Errorf("%s is damaged: %w", path, err),
		"remove it; the session then gets a new ticket: rm "+path)
}

// save writes the session for the next time.
func (s namedSession) save(name string) error {
	path, err := namedSessionPath(name)
	if err != nil {
		return err
	}
	data, err := toml.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func savedTicketPath(name string) (string, error) {
	dir, err := keys.ConfigDir()
	return filepath.Join(dir, "hosts", name), err
}

// saveTicket keeps a ticket under a name, for `pairterm join NAME`.
func saveTicket(name string, t ticket.Ticket) error {
	path, err := savedTicketPath(name)
	if err != nil {
		return err
	}
	return writeFile(path, []byte(t.String()+"\n"))
}

// findTicket returns the ticket that text is or names.
func findTicket(text string) (ticket.Ticket, error) {
	t, err := ticket.Parse(text)
	if err == nil || !errors.Is(err, ticket.ErrNotTicket) {
		return t, err
	}
	if !namePattern.MatchString(text) {
		return t, err
	}
	path, perr := savedTicketPath(text)
	if perr != nil {
		return t, perr
	}
	data, rerr := os.ReadFile(path)
	switch {
	case errors.Is(rerr, fs.ErrNotExist):
		return t, fail(exitTicket, fmt.Errorf("%q is neither a ticket nor the name of a saved one", text),
			"join with the ticket once and save it: pairterm join TICKET --save "+text)
	case rerr != nil:
		return t, rerr
	}
	if t, err = ticket.Parse(string(data)); err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// checkSaveName is checkName for tickets, whose names must not look like one.
func checkSaveName(name string) error {
	if err := checkName("save", name); err != nil {
		return err
	}
	if _, err := ticket.Parse(name); !errors.Is(err, ticket.ErrNotTicket) {
		return usage("choose another name", "the name %q looks like a ticket", name)
	}
	return nil
}

// writeFile writes a private file whole or not at all.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+strings.TrimPrefix(filepath.Base(path), ".")+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
