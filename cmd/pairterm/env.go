package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pairterm/pairterm/keys"
)

// envPrefix begins the names of all our variables.
const envPrefix = "PAIRTERM_"

// What is set in a shared shell. These are no settings.
const (
	envSession = envPrefix + "SESSION" // names the session
	envTicket  = envPrefix + "TICKET"  // how others join it
)

// envTests begins the names of what only tests look at; the others that do are
// listed in noSettings.
const envTests = envPrefix + "TEST_"

// noSettings are variables that begin as settings do and are none, beside those that begin with
// envTests.
var noSettings = append([]string{envSession, envTicket,
	envPrefix + "CONFORMANCE", envPrefix + "RANDOM_STREAMS", envPrefix + "XTERM_HEADLESS"}, secretEnvironment...)

// kubernetesVariable is what Kubernetes sets in all containers of a namespace in which
// a service is called pairterm.
var kubernetesVariable = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?$`)

// kubernetesPort reports whether a variable is the other one that Kubernetes sets: where a
// port of such a service is, as in tcp://10.0.0.1:8080.
func kubernetesPort(name, value string) bool {
	return strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// envName is the variable that stands for a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// withEnvironment lets every flag be set by its variable. An empty variable is one
// that is not set.
func withEnvironment(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		var name []string
		if n := envName(f.Names()[0]); os.Getenv(n) != "" && !kubernetesPort(n, os.Getenv(n)) {
			name = []string{n}
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			f.EnvVars = name
		case *cli.StringFlag:
			f.EnvVars = name
		case *cli.StringSliceFlag:
			f.EnvVars = name
		case *cli.IntFlag:
			f.EnvVars = name
		case *cli.DurationFlag:
			f.EnvVars = name
		default:
			panic("no environment variable for the flag " + f.Names()[0])
		}
	}
	return flags
}

// strayVariables returns a line for every variable of environ that looks like a
// setting and is none, so that a misspelled one is not ignored in silence.
func strayVariables(commands []*cli.Command, environ []string) []string {
	known := settings(commands)
	var lines []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		setting := strings.ToLower(strings.ReplaceAll(short, "_", "-"))
		switch {
		case !ours || value == "" || slices.Contains(noSettings, name):
			continue
		case strings.HasPrefix(name, envTests) || kubernetesVariable.MatchString(name) || kubernetesPort(name, value):
			continue
		case slices.ContainsFunc(known, func(k string) bool { return envName(k) == name }):
			continue
		}
		line := fmt.Sprintf("environment: no command has a setting %s", keys.Printable(name))
		if n := nearest(setting, known); n != "" {
			line += "; did you mean " + envName(n) + "?"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}
