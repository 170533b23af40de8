package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
// ignored, and so is an empty value, which could mean nothing or nobody. A missing
// file is an empty one.
func applyConfig(c *cli.Context, path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file map[string]any
	if err == nil {
		_, err = toml.Decode(string(data), &file)
	}
	if err == nil {
		err = checkConfig(c.App.Commands, file)
	}
	if err == nil {
		err = applySettings(c, file)
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // the path is told anyway
	}
	if err != nil {
		return &configError{path, err}
	}
	return nil
}

// applySettings sets the flags of c that are not set from a file that checkConfig has
// found good.
func applySettings(c *cli.Context, file map[string]any) error {
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
			if _, isTable := value.(map[string]any); isTable { // [signal] is not --signal
				continue
			}
		}
		if !ok || c.IsSet(name) {
			continue
		}
		_, repeatable := f.(*cli.StringSliceFlag)
		texts, err := values(value, repeatable)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, text := range texts {
			if err := c.Set(name, text); err != nil {
				return fmt.Errorf("%s: %q is no value for it", name, text)
			}
		}
	}
	return nil
}

// checkConfig refuses keys that mean nothing.
func checkConfig(commands []*cli.Command, file map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(file)) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == key })
		table, isTable := file[key].(map[string]any)
		switch {
		case i >= 0 && isTable:
			for _, k := range slices.Sorted(maps.Keys(table)) {
				if known := settings(commands[i : i+1]); !slices.Contains(known, k) {
					return &settingError{fmt.Sprintf("[%s]: %s has no setting %q", key, key, k), nearest(k, known)}
				}
			}
		case isTable:
			return &settingError{fmt.Sprintf("[%s]: there is no command of that name", key), nearest(key, commandNames(commands))}
		default:
			if known := settings(commands); !slices.Contains(known, key) {
				return &settingError{fmt.Sprintf("no command has a setting %q", key), nearest(key, known)}
			}
		}
	}
	return nil
}

// settings returns the names of all that can be set of the commands: their long flags.
func settings(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		for _, f := range c.Flags {
			if f != cli.HelpFlag {
				names = append(names, f.Names()[0])
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

// values returns a TOML value as the texts that the flag would have been given, in
// which a "~/" at the beginning is the home directory.
func values(v any, repeatable bool) ([]string, error) {
	list, isList := v.([]any)
	switch {
	case !isList:
		list = []any{v}
	case !repeatable:
		return nil, errors.New("one value, not a list")
	case len(list) == 0:
		return nil, errors.New("the list is empty; leave it out")
	}
	var out []string
	for _, e := range list {
		switch e.(type) {
		case string, bool, int64:
		default:
			return nil, fmt.Errorf("%v is neither a text nor a number nor true or false", e)
		}
		text := fmt.Sprint(e)
		if strings.TrimSpace(text) == "" {
			return nil, errors.New("the text is empty; leave it out")
		}
		if rest, ok := strings.CutPrefix(text, "~/"); ok {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, err
			}
			text = filepath.Join(home, rest)
		}
		out = append(out, text)
	}
	return out, nil
}

// configError is an error in the configuration file.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string { return fmt.Sprintf("configuration %s: %v", e.path, e.err) }
func (e *configError) Unwrap() error { return e.err }

// settingError is a name that means nothing.
type settingError struct{ text, nearest string }

func (e *settingError) Error() string { return e.text }

// hint is what to do about it.
func (e *settingError) hint() string {
	if e.nearest == "" {
		return "every long flag is a setting; see: pairterm --help"
	}
	return "did you mean: " + e.nearest
}
