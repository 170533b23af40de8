package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// interleave returns args with the flags of the named subcommand moved before
// its other arguments, since the flag package stops at the first argument that is not a
// flag while people write `pairterm join TICKET --save bob`. Whatever follows
// "--" stays as it is, the "--" included.
//
// Who asks for help gets it, whatever else is on the line: what package cli has of
// --help takes the other arguments for topics.
func interleave(commands []*cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	at := slices.IndexFunc(args[1:], func(a string) bool { return !strings.HasPrefix(a, "-") }) + 1
	if at == 0 {
		if slices.ContainsFunc(args[1:], asksForHelp) {
			return []string{args[0], helpName}
		}
		return args
	}
	if slices.ContainsFunc(args[1:at], asksForHelp) {
		return []string{args[0], helpName, args[at]}
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
	if i < 0 {
		return args
	}
	takesValue := valueFlags(commands[i].Flags)
	var flags, rest []string
	for words := args[at+1:]; len(words) > 0; words = words[1:] {
		w := words[0]
		if w == "--" {
			rest = append(rest, words...)
			break
		}
		if len(w) < 2 || w[0] != '-' {
			rest = append(rest, w)
			continue
		}
		if asksForHelp(w) {
			return append(slices.Clone(args[:at+1]), w)
		}
		flags = append(flags, w)
		name, _, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
		if !hasValue && takesValue[name] && len(words) > 1 {
			words = words[1:]
			flags = append(flags, words[0])
		}
	}
	return slices.Concat(args[:at+1], flags, rest)
}

// asksForHelp reports whether an argument is the flag that asks for help.
func asksForHelp(arg string) bool {
	return strings.HasPrefix(arg, "-") && slices.Contains(cli.HelpFlag.Names(), strings.TrimPrefix(arg[1:], "-"))
}

// valueFlags returns the names of the flags that are followed by a value.
func valueFlags(flags []cli.Flag) map[string]bool {
	takes := map[string]bool{}
	for _, f := range flags {
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
			for _, n := range f.Names() {
				takes[n] = true
			}
		}
	}
	return takes
}

// commandLine splits what follows the flags into the arguments before "--"
// and the command after it; ok tells whether there was a "--" at all. all are
// the program's arguments, rest those that the flag package left.
func commandLine(all, rest []string) (before, command []string, ok bool) {
	i := slices.Index(all, "--")
	if i < 0 {
		return rest, nil, false
	}
	command = all[i+1:]
	n := len(rest) - len(command)
	if n > 0 && rest[n-1] == "--" {
		n--
	}
	return rest[:max(n, 0)], command, true
}
