package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/term"
)

// run runs the program and returns what it exits with.
func run(ctx context.Context, args []string, std stdio) int {
	if term.RunKeeper() {
		return exitOK
	}
	// Package net/http has a few words for the standard logger, which must never
	// reach a raw terminal.
	log.SetOutput(io.Discard)
	ui := newUI(std.Err)
	app := newApp(args, std, ui)
	err := app.RunContext(ctx, interleave(app.Commands, args))
	var status exitStatus
	var caught *term.SignalError
	switch {
	case err == nil || errors.As(err, &status):
	case errors.As(err, &caught):
		ui.done() // who sent the signal knows
	default:
		ui.error(err)
	}
	return exitCode(err)
}

func newApp(args []string, std stdio, ui *ui) *cli.App {
	cli.FlagStringer = describeFlag
	app := &cli.App{
		Name:                      "pairterm",
		Usage:                     "share your terminal with people you trust, directly from your machine to theirs",
		Version:                   version(),
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Reader:                    std.In,
		Writer:                    std.Out,
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,
		CustomAppHelpTemplate:     appHelp,
		Commands: []*cli.Command{
			hostCommand(args, std, ui),
			joinCommand(std, ui),
			signalCommand(args, ui),
			doctorCommand(std, ui),
			keygenCommand(std, ui),
			versionCommand(std),
			helpCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownCommand(c, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.CustomHelpTemplate = commandHelp
		c.Flags = withEnvironment(c.Flags)
		if c.Name == "version" || c.Name == helpName {
			continue // they tell what they know also when the configuration is wrong
		}
		action := c.Action
		c.Action = func(c *cli.Context) error {
			if err := checkEmpty(c); err != nil {
				return err
			}
			path, err := configPath()
			if err != nil {
				return err
			}
			if err := applyConfig(c, path); err != nil {
				return err
			}
			for _, line := range strayVariables(c.App.Commands, os.Environ()) {
				ui.warnf("%s", line)
			}
			return action(c)
		}
	}
	return app
}

// usageError gives errors of the flag package our form.
func usageError(c *cli.Context, err error, _ bool) error {
	text, _, _ := strings.Cut(err.Error(), ": strconv.")
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return unknownFlag(c, strings.TrimLeft(name, "-"))
	}
	text = strings.Replace(text, "flag needs an argument: -", "a value must follow --", 1)
	text = strings.Replace(strings.TrimSuffix(text, ": parse error"), " for flag -", " for --", 1)
	return usage(seeHelp(c), "%s", text)
}

func unknownFlag(c *cli.Context, name string) error {
	if len(name) == 1 {
		return usage(seeHelp(c), "there is no flag -%s", name)
	}
	err := fmt.Errorf("there is no flag --%s", name)
	if commandOf(c) == "" {
		if n := nearest(name, commandNames(c.App.Commands)); n != "" {
			return fail(exitUsage, err, "did you mean: pairterm "+n, seeHelp(c))
		}
	} else if n := nearest(name, settings([]*cli.Command{c.Command})); n != "" {
		return fail(exitUsage, err, "did you mean: --"+n, seeHelp(c))
	}
	return fail(exitUsage, err, seeHelp(c))
}

func unknownCommand(c *cli.Context, name string) error {
	const see = "see: pairterm --help"
	err := fmt.Errorf("there is no command %q", name)
	if n := nearest(name, commandNames(c.App.Commands)); n != "" {
		return fail(exitUsage, err, "did you mean: pairterm "+n, see)
	}
	return fail(exitUsage, err, see)
}

// commandOf is the name of the command that c is about, empty for none.
func commandOf(c *cli.Context) string {
	if c.Command == nil || c.Command.Name == "pairterm" {
		return ""
	}
	return c.Command.Name
}

func seeHelp(c *cli.Context) string {
	if name := commandOf(c); name != "" {
		return "see: pairterm " + name + " --help"
	}
	return "see: pairterm --help"
}

// checkEmpty refuses values that are empty: most likely a variable in a script is not
// set, and without --allow or --host-key others are let in or trusted.
func checkEmpty(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		var given []string
		switch f.(type) {
		case *cli.StringFlag:
			given = []string{c.String(name)}
		case *cli.StringSliceFlag:
			given = c.StringSlice(name)
		}
		if c.IsSet(name) && slices.ContainsFunc(given, func(v string) bool { return strings.TrimSpace(v) == "" }) {
			return usage("give it a value, or leave it out", "the value of --%s is empty", name)
		}
	}
	return nil
}

// configPath is where the configuration file is, whether it exists or not.
func configPath() (string, error) {
	dir, err := keys.ConfigDir()
	return filepath.Join(dir, "config.toml"), err
}

const appHelp = `{{.Name}} - {{.Usage}}

  pairterm host --allow alice.pub    share this shell with alice, and nobody else
  pairterm join TICKET               alice joins
  pairterm signal --open             a signaling server, on a box of your own

Commands:
{{range .VisibleCommands}}  {{join .Names ", "}}{{"\t"}}{{.Usage}}
{{end}}
pairterm COMMAND --help tells more about each. Every flag --some-flag can also be
set by the environment, as PAIRTERM_SOME_FLAG, and in the file config.toml in
$XDG_CONFIG_HOME/pairterm (~/.config/pairterm).
`

const commandHelp = `{{.HelpName}} - {{.Usage}}

{{.Description}}

Usage: {{.HelpName}} {{.ArgsUsage}}

{{range .VisibleFlags}}  {{.}}
{{end}}{{if gt (len .VisibleFlags) 1}}
Every flag --some-flag is also PAIRTERM_SOME_FLAG, and a setting in config.toml;
see: pairterm --help
{{end}}`

// helpWidth is how many columns the text about a flag has.
const helpWidth = 48

// describeFlag is a flag's part of the help: its names, a tab, and what it does, in as
// many lines as that takes.
func describeFlag(f cli.Flag) string {
	d := f.(cli.DocGenerationFlag)
	usage, value := d.GetUsage(), ""
	if parts := strings.SplitN(usage, "`", 3); len(parts) == 3 {
		usage, value = strings.Join(parts, ""), " "+parts[1]
	}
	names := "--" + f.Names()[0] + value
	for _, short := range f.Names()[1:] {
		names += ", -" + short
	}
	if v := strings.Trim(d.GetDefaultText(), `"`); d.TakesValue() && v != "" && v != "0" {
		usage += " (default: " + v + ")"
	}
	text, column := "", 0
	for _, word := range strings.Fields(usage) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > helpWidth:
			text, column = text+"\n  \t", 0
		default:
			text, column = text+" ", column+1
		}
		text, column = text+word, column+n
	}
	return names + "\t" + text
}
