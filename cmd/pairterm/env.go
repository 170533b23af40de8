package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// What is set in a shared shell. These are no settings.
const (
	envSession = "PAIRTERM_SESSION" // names the session
	envTicket  = "PAIRTERM_TICKET"  // how others join it
)

// envName is the variable that stands for a flag.
func envName(flag string) string {
	return "PAIRTERM_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// withEnvironment lets every flag be set by its variable.
func withEnvironment(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		name := envName(f.Names()[0])
		switch f := f.(type) {
		case *cli.BoolFlag:
			f.EnvVars = []string{name}
		case *cli.StringFlag:
			f.EnvVars = []string{name}
		case *cli.StringSliceFlag:
			f.EnvVars = []string{name}
		case *cli.IntFlag:
			f.EnvVars = []string{name}
		case *cli.DurationFlag:
			f.EnvVars = []string{name}
		default:
			panic("no environment variable for the flag " + f.Names()[0])
		}
	}
	return flags
}
