package main

import (
	"context"
	"errors"
	"log/slog"
	"os/user"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// findIdentities returns the keys of the person at this machine. Keys that
// exist and cannot be used are warned of when file names one or none is left.
func findIdentities(ctx context.Context, ui *ui, file string, verbose bool) ([]keys.Identity, error) {
	ids, err := keys.Identities(ctx, keys.IdentityOptions{
		File:   file,
		Prompt: askPassphrase,
		Warn: func(err error) {
			if verbose || file != "" {
				ui.warnf("%v", err)
			}
		},
	})
	if err != nil && file != "" && exitCode(err) == exitError && ctx.Err() == nil {
		err = fail(exitKey, err, "name another key, or make one with: pairterm keygen FILE")
	}
	return ids, err
}

// hostIdentity returns the key that a host proves to its guests: the one in
// file, else the first that can sign without asking anybody. nil if there is none:
// guests know the host by its session key all the same.
func hostIdentity(ctx context.Context, file string, ids []keys.Identity) (keys.Identity, error) {
	for _, id := range ids {
		if file == "" && needsTouch(id) {
			continue
		}
		ctx := ctx
		if file == "" {
			ctx = withoutPrompt(ctx)
		}
		// Signing once now asks for the passphrase while there is somebody to ask.
		_, err := id.Sign(ctx, "startup@pairterm", []byte("can this key sign?"))
		if err == nil {
			return id, nil
		}
		if file != "" {
			return nil, err
		}
	}
	return nil, nil
}

// needsTouch reports whether signing takes a person at the machine.
func needsTouch(id keys.Identity) bool {
	t := keys.Plain(id.Public()).Type()
	return len(t) > 3 && t[:3] == "sk-"
}

// loadAccess returns the allowlist of a host, loaded. Without grants it is the
// default list, or else the person's own keys. warn is told what the host should
// know, now and later.
func loadAccess(ctx context.Context, ui *ui, o hostOptions, ids []keys.Identity, warn func(error)) (*keys.Allowlist, error) {
	grants := o.grants
	var err error
	if len(grants) == 0 {
		if grants, err = keys.DefaultGrants(); err != nil {
			return nil, err
		}
	}
	if len(grants) == 0 {
		if grants, err = ownKeys(ids); err != nil {
			return nil, err
		}
		ui.infof("nobody else is allowed: add --allow alice.pub to let alice in")
	}
	list, err := loadList(ctx, "who is allowed", keys.AllowlistOptions{
		Grants:    grants,
		Warn:      warn,
		GitHubURL: o.githubURL,
		GitLabURL: o.gitlabURL,
	})
	if err != nil {
		return nil, err
	}
	if list.Current().Len() == 0 {
		ui.warnf("the list of who is allowed is empty: nobody can join until a key is added")
	}
	return list, nil
}

// ownKeys grants typing to the holders of the given keys: the same person at
// another terminal.
func ownKeys(ids []keys.Identity) ([]keys.Grant, error) {
	var grants []keys.Grant
	for _, id := range ids {
		s, err := keys.ParseSource(keys.AuthorizedLine(id.Public(), id.Comment()))
		if err != nil {
			return nil, err
		}
		grants = append(grants, keys.Grant{Source: s, Role: keys.RoleType})
	}
	return grants, nil
}

// ensureOwnKey makes pairterm's own key for a person who has none at all, as on
// a fresh machine.
func ensureOwnKey(ctx context.Context, ui *ui) error {
	path, err := keys.OwnKeyPath()
	if err != nil {
		return err
	}
	pub, err := keys.Generate(keys.KeyTypeEd25519, path, "", nil)
	if err != nil {
		return err
	}
	ui.infof("you have no SSH key; made one for you in %s: %s", path, keys.Fingerprint(pub))
	return nil
}

// authorizer decides by the list as it is at the moment. What it tells a guest names
// nothing of the host's; the log has all of it.
func authorizer(list *keys.Allowlist, log *slog.Logger) func(context.Context, tunnel.Offer, bool, func(string) error) (tunnel.Grant, error) {
	var logins []string
	if u, err := user.Current(); err == nil {
		logins = []string{u.Username}
	}
	return func(_ context.Context, o tunnel.Offer, _ bool, _ func(string) error) (tunnel.Grant, error) {
		m, err := list.Current().Lookup(o.Key, time.Now(), logins...)
		if err == nil {
			return tunnel.Grant{Role: m.Role, Until: m.ExpiresAt, Name: grantName(m, o)}, nil
		}
		log.Debug("not allowed", "key", keys.Describe(o.Key, o.Comment), "why", err)
		refused := &tunnel.RefusedError{Code: tunnel.RefusedNotAllowed, Text: keys.ErrNotAllowed.Error()}
		if errors.Is(err, keys.ErrExpired) {
			refused.Code = tunnel.RefusedExpired
		}
		for _, reason := range []error{keys.ErrExpired, keys.ErrNotYetValid, keys.ErrCertificate} {
			if errors.Is(err, reason) {
				refused.Text = reason.Error()
			}
		}
		return tunnel.Grant{}, refused
	}
}

// grantName is what the list calls the holder of a key. Of a certificate it is
// the name that the authority gave it. What the guest calls itself does not count.
func grantName(m keys.Match, o tunnel.Offer) string {
	if cert, ok := o.Key.(*ssh.Certificate); ok && cert.KeyId != "" {
		return cert.KeyId
	}
	if m.Entry.Comment != "" && !m.Entry.CertAuthority {
		return m.Entry.Comment
	}
	return keys.Fingerprint(o.Key)
}
