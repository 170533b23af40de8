package keys_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/pairterm/pairterm/keys"
)

func TestDirs(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	tests := []struct {
		name      string
		dir       func() (string, error)
		underHome string
	}{
		{"XDG_CONFIG_HOME", keys.ConfigDir, ".config"},
		{"XDG_STATE_HOME", keys.StateDir, filepath.Join(".local", "state")},
		{"XDG_CACHE_HOME", keys.CacheDir, ".cache"},
	}
	for _, tt := range tests {
		t.Setenv(tt.name, xdg)
		if got, err := tt.dir(); err != nil || got != filepath.Join(xdg, "pairterm") {
			t.Errorf("%s set: got %q, %v", tt.name, got, err)
		}
		if runtime.GOOS == "windows" {
			continue
		}
		for _, value := range []string{"", "relative/path"} {
			t.Setenv(tt.name, value)
			if got, err := tt.dir(); err != nil || got != filepath.Join(home, tt.underHome, "pairterm") {
				t.Errorf("%s=%q: got %q, %v", tt.name, value, got, err)
			}
		}
	}
}

func TestRole(t *testing.T) {
	for _, r := range []keys.Role{keys.RoleView, keys.RoleType} {
		if got, err := keys.ParseRole(r.String()); err != nil || got != r {
			t.Errorf("%v: got %v, %v", r, got, err)
		}
	}
	for _, r := range []keys.Role{keys.RoleNone, keys.RoleView, keys.RoleType} {
		text, err := r.MarshalText()
		if err != nil {
			t.Error(err)
		}
		got := keys.Role(9)
		if err := got.UnmarshalText(text); err != nil || got != r {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if _, err := keys.Role(9).MarshalText(); err == nil {
		t.Error("role 9 has a text")
	}
	r := keys.RoleView
	if err := r.UnmarshalText([]byte("owner")); err == nil || r != keys.RoleView {
		t.Errorf("owner: got %v, %v", r, err)
	}
}
