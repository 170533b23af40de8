package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/term"
)

func hostCommand(args []string, std stdio, ui *ui) *cli.Command {
	return &cli.Command{
		Name:      "host",
		Usage:     "share this terminal",
		ArgsUsage: "[--allow WHO]… [--view WHO]… [-- COMMAND…]",
		Description: `  pairterm host --allow alice.pub                  share your shell with alice
  pairterm host --allow github:alice --view team   alice types, a team watches
  pairterm host --signal wss://signal.example.org  meet through a server of yours
  pairterm host --name work                        keep the ticket from day to day
  pairterm host --allow alice.pub -- htop          share one command

WHO is a public key file, a file like ~/.ssh/authorized_keys, a key line, or
github:NAME, gitlab:NAME, https://…  Files are watched: a key that is removed
ends its session. Without --allow and --view those are let in who are listed in
authorized_keys in $XDG_CONFIG_HOME/pairterm, or, if there is no such file,
holders of your own keys.

Without --signal a small signaling server runs inside, at the addresses of
this machine; that is all it takes on one machine, in a LAN or a VPN.

Ctrl-] and then i tells who is here, and over which path; Ctrl-] twice is Ctrl-]
for the shell, and --escape chooses another key, or none.`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "allow", Aliases: []string{"a"}, Usage: "let `WHO` in, to see and type (repeatable)"},
			&cli.StringSliceFlag{Name: "view", Usage: "let `WHO` in, to see only (repeatable)"},
			&cli.StringSliceFlag{Name: "signal", Aliases: []string{"s"}, Usage: "meet guests at the signaling server `URL` (repeatable)"},
			&cli.StringFlag{Name: "signal-listen", Usage: "`ADDR`ess and port of the server inside, as host:port or :port"},
			&cli.StringFlag{Name: "name", Usage: "keep this session's ticket under `NAME`, for the next time"},
			&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "prove to guests the SSH key in `FILE`"},
			&cli.StringFlag{Name: "size", Value: "host", Usage: "`WHOSE` window decides the size: host, or smallest of all who type"},
			&cli.StringFlag{Name: "record", Usage: "record the session to `FILE`, for asciinema play"},
			&cli.IntFlag{Name: "scrollback", Value: defaultScrollback, Usage: "keep `KIB` of past output for guests"},
			&cli.StringFlag{Name: "github-url", Value: "https://github.com", Usage: "`URL` of the GitHub that github:NAME means"},
			&cli.StringFlag{Name: "gitlab-url", Value: "https://gitlab.com", Usage: "`URL` of the GitLab that gitlab:NAME means"},
			&cli.StringFlag{Name: "escape", Value: term.DefaultLeader.String(), Usage: "the leader `KEY`, for example ctrl-a, or none"},
			&cli.BoolFlag{Name: "headless", Usage: "share without a terminal of your own, as a service or in CI"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no notices of joins and leaves in the terminal"},
			&cli.BoolFlag{Name: "nested", Usage: "share even inside a shell that is shared already"},
			&cli.IntFlag{Name: "port", Usage: "`PORT`, UDP and TCP, for the direct paths, for example one that a router forwards"},
			&cli.IntFlag{Name: "tcp-port", Usage: "another `PORT` for TCP, for example 443, which most firewalls let pass"},
			&cli.StringSliceFlag{Name: "public-addr", Usage: "`ADDR`ess, or ADDR:PORT, from which a NAT or a cloud forwards to --port (repeatable)"},
			&cli.StringFlag{Name: "log", Usage: "write a log to `FILE`"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "tell and log more"},
		}, pathFlags()...),
		Action: func(c *cli.Context) error {
			before, command, ok := commandLine(args, c.Args().Slice())
			if len(before) > 0 && unquotedKey(slices.Concat(c.StringSlice("allow"), c.StringSlice("view"))...) {
				return usage(quoteKeyHint, "what is %q?", before[0])
			}
			if len(before) > 0 && before[0] == helpName {
				return usage("for help: pairterm host --help; to share a command of that name: pairterm host -- "+strings.Join(before, " "), "what is %q?", before[0])
			}
			if len(before) > 0 {
				return usage("to share a command: pairterm host -- "+strings.Join(before, " "), "what is %q?", before[0])
			}
			if ok && len(command) == 0 {
				return usage("pairterm host -- COMMAND", "no command follows --")
			}
			o := hostOptions{
				command:      command,
				signalListen: c.String("signal-listen"),
				name:         c.String("name"),
				identity:     c.String("identity"),
				record:       c.String("record"),
				scrollback:   c.Int("scrollback") << 10,
				githubURL:    c.String("github-url"),
				gitlabURL:    c.String("gitlab-url"),
				headless:     c.Bool("headless"),
				nested:       c.Bool("nested"),
				quiet:        c.Bool("quiet"),
				port:         c.Int("port"),
				tcpPort:      c.Int("tcp-port"),
				log:          c.String("log"),
				verbose:      c.Bool("verbose"),
				signal:       splitWords(c.StringSlice("signal")),
			}
			switch size := c.String("size"); size {
			case "host":
			case "smallest":
				o.smallest = true
			default:
				return usage("--size host, or --size smallest", "--size %q", size)
			}
			leader, err := term.ParseLeader(c.String("escape"))
			if err != nil {
				return usage("for example: --escape ctrl-a", "--escape: %w", err)
			}
			o.leader = leader
			if len(o.signal) > 0 && o.signalListen != "" {
				return usage("leave out one of them", "--signal-listen is for the server inside, which --signal replaces")
			}
			if err := checkPorts(c, "port", "tcp-port"); err != nil {
				return err
			}
			if o.publicAddrs, err = parsePublicAddrs(c.StringSlice("public-addr")); err != nil {
				return err
			}
			if o.paths, err = parsePathOptions(c); err != nil {
				return err
			}
			if c.Int("scrollback") < 0 || c.Int("scrollback") > maxScrollback {
				return usage(fmt.Sprintf("0 to %d", maxScrollback), "--scrollback %d", c.Int("scrollback"))
			}
			if o.name != "" {
				if err := checkName("name", o.name); err != nil {
					return err
				}
			}
			for _, g := range []struct {
				flag string
				role keys.Role
			}{{"allow", keys.RoleType}, {"view", keys.RoleView}} {
				grants, err := parseGrants(g.flag, c.StringSlice(g.flag), g.role)
				if err != nil {
					return err
				}
				o.grants = append(o.grants, grants...)
			}
			return runHost(c.Context, std, ui, o)
		},
	}
}

// Sizes of --scrollback, in KiB.
const (
	defaultScrollback = 2048
	maxScrollback     = 64 << 10
)

// hostOptions is what `pairterm host` was asked to do.
type hostOptions struct {
	command      []string // empty: the user's shell
	grants       []keys.Grant
	signal       []string
	signalListen string
	name         string
	identity     string
	smallest     bool
	record       string
	scrollback   int // bytes
	githubURL    string
	gitlabURL    string
	leader       term.Leader
	headless     bool
	nested       bool
	quiet        bool
	port         int
	tcpPort      int
	publicAddrs  []netip.AddrPort
	paths        pathOptions
	log          string
	verbose      bool
}

// splitWords splits values that came from the environment, where several are separated
// by blanks or commas.
func splitWords(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })...)
	}
	return out
}

// splitLines does so for values that may hold blanks and commas.
func splitLines(values []string) []string {
	var out []string
	for _, v := range values {
		for _, line := range strings.Split(v, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
	}
	return out
}
