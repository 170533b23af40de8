package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// applyConfig sets the flags of c that neither the command line nor the
// environment gave from the configuration file. The file is TOML: a table per
// command, whose keys are the command's long flags, and above them the same
// for all commands.
//
//	signal = "wss://signal.example.org"
//
//	[host]
//	allow = ["~/.config/pairterm/team", "github:alice"]
//	escape = "ctrl-a"
//
// A key that no command has is an error, so that a misspelled setting is not
// ignored. A missing file is an empty one.
func applyConfig(c *cli.Context, path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &configError{path, err}
	}
	var file map[string]any
	if _, err := toml.Decode(string(data), &file); err != nil {
		return &configError{path, err}
	}
	if err := checkConfig(c.App.Commands, file); err != nil {
		return &configError{path, err}
	}
	own, _ := file[c.Command.Name].(map[string]any)
	var host map[string]any
	if c.Command.Name == "doctor" { // which examines what a host would do
		host, _ = file["host"].(map[string]any)
	}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		value, ok := own[name]
		if !ok {
			value, ok = host[name]
		}
		if !ok {
			value, ok = file[name]
		}
		if !ok || c.IsSet(name) {
			continue
		}
		for _, text := range values(value) {
			if err := c.Set(name, text); err != nil {
				return &configError{path, fmt.Errorf("%s: %w", name, err)}
			}
		}
	}
	return nil
}

// checkConfig refuses keys that mean nothing.
func checkConfig(commands []*cli.Command, file map[string]any) error {
	for key, value := range file {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == key })
		table, isTable := value.(map[string]any)
		switch {
		case i >= 0 && isTable:
			for k := range table {
				if !hasFlag(commands[i:i+1], k) {
					return fmt.Errorf("[%s]: %s has no setting %q", key, key, k)
				}
			}
		case isTable:
			return fmt.Errorf("[%s]: there is no command of that name", key)
		case !hasFlag(commands, key):
			return fmt.Errorf("no command has a setting %q", key)
		}
	}
	return nil
}

func hasFlag(commands []*cli.Command, name string) bool {
	return slices.ContainsFunc(commands, func(c *cli.Command) bool {
		return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return f.Names()[0] == name })
	})
}

// values returns a TOML value as the texts that the flag would have been
// given.
func values(v any) []string {
	list, ok := v.([]any)
	if !ok {
		return []string{fmt.Sprint(v)}
	}
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// configError is an error in the configuration file.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string { return fmt.Sprintf("configuration %s: %v", e.path, e.err) }
func (e *configError) Unwrap() error { return e.err }
