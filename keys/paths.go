package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// appDir is pairterm's own directory below each of the base directories.
const appDir = "pairterm"

// ConfigDir returns the directory of pairterm's configuration, lists and own
// keys: $XDG_CONFIG_HOME/pairterm, else ~/.config/pairterm on every Unix,
// macOS included, and %AppData%\pairterm on Windows. It need not exist.
func ConfigDir() (string, error) {
	return baseDir("XDG_CONFIG_HOME", ".config", "AppData")
}

// StateDir returns the directory for what pairterm remembers from run to run:
// $XDG_STATE_HOME/pairterm, else ~/.local/state/pairterm, and
// %LocalAppData%\pairterm on Windows. It need not exist.
func StateDir() (string, error) {
	return baseDir("XDG_STATE_HOME", filepath.Join(".local", "state"), "LocalAppData")
}

// CacheDir returns the directory for what can be fetched again:
// $XDG_CACHE_HOME/pairterm, else ~/.cache/pairterm, and
// %LocalAppData%\pairterm\cache on Windows. It need not exist.
func CacheDir() (string, error) {
	dir, err := baseDir("XDG_CACHE_HOME", ".cache", "LocalAppData")
	if err == nil && runtime.GOOS == "windows" && !xdgSet("XDG_CACHE_HOME") {
		dir = filepath.Join(dir, "cache") // the same base directory as StateDir
	}
	return dir, err
}

// xdgSet tells whether the variable holds a path that counts. The XDG base
// directory specification has relative ones ignored.
func xdgSet(name string) bool { return filepath.IsAbs(os.Getenv(name)) }

func baseDir(xdg, underHome, windows string) (string, error) {
	if xdgSet(xdg) {
		return filepath.Join(os.Getenv(xdg), appDir), nil
	}
	if runtime.GOOS == "windows" {
		if dir := os.Getenv(windows); dir != "" {
			return filepath.Join(dir, appDir), nil
		}
		return "", fmt.Errorf("neither %%%s%% nor %s is set", windows, xdg)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, underHome, appDir), nil
}

// expandHome replaces a leading "~/", for paths that reach pairterm without
// having passed a shell, such as those in a configuration file.
func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, rest), nil
}
