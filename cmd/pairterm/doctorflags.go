package main

import (
	"github.com/urfave/cli/v2"
)

func doctorCommand(std stdio, ui *ui) *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "find out what works here, and what does not",
		ArgsUsage: "[TICKET]",
		Description: `  pairterm doctor                                  this machine and its network
  pairterm doctor --signal wss://signal.example.org    with a server of yours
  pairterm doctor TICKET                           and whether that ticket's host is there

It looks at keys, lists, the terminal, the signaling server, and at what routers
and firewalls do with direct paths. A router that maps ports is asked for one, for
a moment; beside that nothing is changed, and no host notices. What
[host] says in the configuration file counts, as for host itself. The exit status
is 0 when all is well, 1 for warnings, 2 for problems.`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "signal", Aliases: []string{"s"}, Usage: "examine the signaling server `URL` (repeatable)"},
			&cli.StringSliceFlag{Name: "stun", Usage: "ask the STUN server `HOST:PORT` instead of the signaling server's (repeatable)"},
			&cli.IntFlag{Name: "port", Usage: "the UDP `PORT` that host is to use"},
			&cli.BoolFlag{Name: "no-portmap", Usage: "do not ask the router to forward a port"},
			&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "examine the SSH key in `FILE`, and no other"},
			&cli.StringSliceFlag{Name: "allow", Aliases: []string{"a"}, Usage: "examine the list `WHO`, as of host --allow (repeatable)"},
			&cli.StringSliceFlag{Name: "view", Usage: "examine the list `WHO`, as of host --view (repeatable)"},
			&cli.StringFlag{Name: "github-url", Value: "https://github.com", Usage: "`URL` of the GitHub that github:NAME means"},
			&cli.StringFlag{Name: "gitlab-url", Value: "https://gitlab.com", Usage: "`URL` of the GitLab that gitlab:NAME means"},
			&cli.BoolFlag{Name: "json", Usage: "print what was found as JSON, for programs"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("a ticket is one word; quote it if it was broken over lines", "too many arguments: %q", c.Args().Slice())
			}
			if err := checkPorts(c, "port"); err != nil {
				return err
			}
			o := doctorOptions{
				ticket:    c.Args().First(),
				signal:    splitWords(c.StringSlice("signal")),
				stun:      splitWords(c.StringSlice("stun")),
				port:      c.Int("port"),
				noPortmap: c.Bool("no-portmap"),
				identity:  c.String("identity"),
				allow:     c.StringSlice("allow"),
				view:      c.StringSlice("view"),
				githubURL: c.String("github-url"),
				gitlabURL: c.String("gitlab-url"),
				json:      c.Bool("json"),
			}
			if err := checkSTUN(o.stun); err != nil {
				return err
			}
			return runDoctor(c.Context, std, ui, o)
		},
	}
}

// doctorOptions is what `pairterm doctor` was asked to do.
type doctorOptions struct {
	ticket               string // or the name of a saved one
	signal, stun         []string
	port                 int
	noPortmap            bool
	identity             string
	allow, view          []string
	githubURL, gitlabURL string
	json                 bool
}
