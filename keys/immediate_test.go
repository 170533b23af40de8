package keys_test

import (
	"context"
	"testing"

	"github.com/pairterm/pairterm/keys"
)

func TestImmediate(t *testing.T) {
	p := newPerson(t)
	plain, _ := p.keygen("plain", "-t", "ed25519", "-N", "")
	locked, _ := p.keygen("locked", "-t", "ed25519", "-N", "passphrase")
	o := p.options()
	o.Prompt = func(context.Context, string) ([]byte, error) { return []byte("passphrase"), nil }
	identity := func(path string) keys.Identity {
		o.File = path
		ids, err := keys.Identities(t.Context(), o)
		if err != nil || len(ids) != 1 {
			t.Fatalf("%s: %v, %v", path, ids, err)
		}
		return ids[0]
	}
	if !keys.Immediate(identity(plain)) {
		t.Error("a key without a passphrase")
	}
	id := identity(locked)
	if keys.Immediate(id) {
		t.Error("a locked key")
	}
	if _, err := id.Sign(t.Context(), testNamespace, testMessage); err != nil {
		t.Fatal(err)
	}
	if !keys.Immediate(id) {
		t.Error("an unlocked key")
	}
}
