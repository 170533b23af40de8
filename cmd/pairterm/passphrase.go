package main

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/term"
)

// promptKey is the key of a context's value that says whether askPassphrase
// may ask: an *atomic.Bool that is true when it may not.
type promptKey struct{}

// withoutPrompt makes askPassphrase ask nobody.
func withoutPrompt(ctx context.Context) context.Context {
	ctx, end := withPromptUntil(ctx)
	end()
	return ctx
}

// withPromptUntil lets askPassphrase ask until end is called.
func withPromptUntil(ctx context.Context) (_ context.Context, end func()) {
	silent := new(atomic.Bool)
	return context.WithValue(ctx, promptKey{}, silent), func() { silent.Store(true) }
}

// askPassphrase asks on the terminal, whatever stdin is.
func askPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	if silent, ok := ctx.Value(promptKey{}).(*atomic.Bool); ok && silent.Load() {
		return nil, keys.ErrPassphraseNeeded
	}
	// On a line of its own, whatever progress is shown.
	return term.ReadPassword(ctx, "\r\x1b[K"+prompt)
}

// newPassphrase asks for a passphrase twice.
func newPassphrase(ctx context.Context) ([]byte, error) {
	first, err := term.ReadPassword(ctx, "Passphrase for the new key: ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, errors.New("an empty passphrase encrypts nothing")
	}
	again, err := term.ReadPassword(ctx, "The same passphrase again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}
