package main

import (
	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/term"
)

func joinCommand(std stdio, ui *ui) *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "join a terminal that is shared with you",
		ArgsUsage: "TICKET",
		Description: `  pairterm join TICKET                   join; your keys are found as ssh finds them
  pairterm join TICKET --save bob        and from then on: pairterm join bob
  pairterm join TICKET --host-key bob.pub    insist on who hosts

Ctrl-] and then d leaves; Ctrl-] and then ? tells what else there is. The exit
status is the shared shell's.`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "prove the SSH key in `FILE`, and no other"},
			&cli.StringFlag{Name: "host-key", Usage: "insist that the host proves a key of `WHO`: a file, a key line, github:NAME, …"},
			&cli.StringFlag{Name: "save", Usage: "keep the ticket under `NAME`"},
			&cli.BoolFlag{Name: "wait", Usage: "wait until the host is there"},
			&cli.StringFlag{Name: "escape", Value: term.DefaultLeader.String(), Usage: "the leader `KEY`, for example ctrl-a, or none"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "do not tell in the terminal how it is connected"},
			&cli.BoolFlag{Name: "trace", Usage: "tell how the direct path was looked for: pairs of addresses, and their fate"},
			&cli.StringFlag{Name: "log", Usage: "write a log to `FILE`"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "tell and log more"},
		}, pathFlags()...),
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				return usage("pairterm join TICKET, as the host's pairterm printed it", "which ticket?")
			case 1:
			default:
				if unquotedKey(c.String("host-key")) {
					return usage(quoteKeyHint, "too many arguments: %q", c.Args().Slice())
				}
				return usage("a ticket is one word; quote it if it was broken over lines", "too many arguments: %q", c.Args().Slice())
			}
			t, err := findTicket(c.Args().First())
			if err != nil {
				return err
			}
			leader, err := term.ParseLeader(c.String("escape"))
			if err != nil {
				return usage("for example: --escape ctrl-a", "--escape: %w", err)
			}
			if name := c.String("save"); name != "" {
				if err := checkSaveName(name); err != nil {
					return err
				}
			}
			paths, err := parsePathOptions(c)
			if err != nil {
				return err
			}
			return runJoin(c.Context, std, ui, joinOptions{
				ticket:   t,
				identity: c.String("identity"),
				hostKey:  c.String("host-key"),
				save:     c.String("save"),
				wait:     c.Bool("wait"),
				leader:   leader,
				quiet:    c.Bool("quiet"),
				trace:    c.Bool("trace"),
				paths:    paths,
				log:      c.String("log"),
				verbose:  c.Bool("verbose"),
			})
		},
	}
}

// joinOptions is what `pairterm join` was asked to do.
type joinOptions struct {
	ticket   ticket.Ticket
	identity string
	hostKey  string
	save     string
	wait     bool
	leader   term.Leader
	quiet    bool
	trace    bool
	paths    pathOptions
	log      string
	verbose  bool
}
