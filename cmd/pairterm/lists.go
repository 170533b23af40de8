package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pairterm/pairterm/keys"
)

// parseGrants returns what the values of a flag that names lists grant.
func parseGrants(flag string, values []string, role keys.Role) ([]keys.Grant, error) {
	var grants []keys.Grant
	for _, spec := range splitLines(values) {
		s, err := keys.ParseSource(spec)
		switch {
		case errors.Is(err, keys.ErrPrivateKey):
			return nil, fmt.Errorf("--%s: %w", flag, err)
		case err != nil:
			return nil, usage("a list is a file, a key line, github:NAME, gitlab:NAME or https://…", "--%s: %w", flag, err)
		}
		grants = append(grants, keys.Grant{Source: s, Role: role})
	}
	return grants, nil
}

// loadList returns the lists of o, loaded. what says whose they are, in errors.
func loadList(ctx context.Context, what string, o keys.AllowlistOptions) (*keys.Allowlist, error) {
	list, err := keys.NewAllowlist(o)
	if err == nil {
		err = list.Load(ctx)
	}
	if err == nil {
		return list, nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, keys.ErrPrivateKey) || ctx.Err() != nil {
		return nil, err
	}
	var remote, unquoted bool
	for _, g := range o.Grants {
		remote = remote || g.Source.Remote()
		unquoted = unquoted || g.Source.Kind() == keys.SourceFile && isKeyType(g.Source.String())
	}
	var bad *keys.ParseError
	_, known := adviceFor(err)
	switch {
	case unquoted:
		err = fail(exitUsage, err, quoteKeyHint)
	case errors.As(err, &bad) && !remote:
		err = fail(exitFile, err, "mend the list; nothing in it is skipped in silence")
	case known:
	case remote:
		err = fail(exitFile, err, "check the name, the address and the network, or name a file with the keys")
	default:
		err = fail(exitFile, err, "check the name of the file")
	}
	return nil, err
}

// quoteKeyHint is for those who gave a key line as several words.
const quoteKeyHint = "quote the whole key line, as in: 'ssh-ed25519 AAAA… alice'"

// unquotedKey reports whether somebody forgot to quote a key line among the values,
// which then are its first words.
func unquotedKey(values ...string) bool { return slices.ContainsFunc(values, isKeyType) }

func isKeyType(word string) bool {
	return !strings.Contains(word, " ") &&
		(strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-"))
}
