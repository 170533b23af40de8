package main

import (
	"context"
	"errors"
	"io"
	"log"
	"path/filepath"
	"strings"

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
	cli.AppHelpTemplate, cli.CommandHelpTemplate = appHelp, commandHelp
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
		Commands: []*cli.Command{
			hostCommand(args, std, ui),
			joinCommand(std, ui),
			signalCommand(args, ui),
			doctorCommand(std, ui),
			keygenCommand(std, ui),
			versionCommand(std),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usage("see: pairterm --help", "there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.Flags = withEnvironment(c.Flags)
		if c.Name == "version" {
			continue // it tells the version also when the configuration is wrong
		}
		action := c.Action
		c.Action = func(c *cli.Context) error {
			path, err := configPath()
			if err != nil {
				return err
			}
			if err := applyConfig(c, path); err != nil {
				return err
			}
			return action(c)
		}
	}
	return app
}

// usageError gives errors of the flag package our form.
func usageError(c *cli.Context, err error, _ bool) error {
	see := "see: pairterm --help"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "pairterm" {
		see = "see: pairterm " + c.Command.Name + " --help"
	}
	text := strings.Replace(err.Error(), "flag provided but not defined: -", "there is no flag --", 1)
	text = strings.Replace(text, "flag needs an argument: -", "a value must follow --", 1)
	return usage(see, "%s", text)
}

// configPath is where the configuration file is, whether it exists or not.
func configPath() (string, error) {
	dir, err := keys.ConfigDir()
	return filepath.Join(dir, "config.toml"), err
}

const appHelp = `{{.Name}} - {{.Usage}}

  pairterm host --allow alice.pub    share this shell with alice, and nobody else
  pairterm join TICKET               alice joins
  pairterm signal --open             the introduction server, on a box of your own

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
{{end}}`
