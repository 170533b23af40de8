package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

const helpName = "help"

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      helpName,
		Usage:     "tell about pairterm, or about one of its commands",
		ArgsUsage: "[COMMAND]",
		Description: `  pairterm help          what commands there are
  pairterm help host     how to use one of them; so does: pairterm host --help`,
		Action: func(c *cli.Context) error {
			name := c.Args().First()
			switch {
			case c.NArg() > 1:
				return usage("pairterm help COMMAND", "too many arguments: %q", c.Args().Slice())
			case name == "":
				return cli.ShowAppHelp(c)
			case !slices.Contains(commandNames(c.App.Commands), name):
				return unknownCommand(c, name)
			}
			return cli.ShowCommandHelp(c, name)
		},
	}
}
