package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/term"
)

// failure is an error with the exit code and the hints that a command knows
// for it; what libraries return is looked up in the table below.
type failure struct {
	code  int
	err   error
	hints []string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail returns a failure.
func fail(code int, err error, hints ...string) error {
	return &failure{code, err, hints}
}

// usage returns the failure of a command line that makes no sense.
func usage(hint, format string, args ...any) error {
	return fail(exitUsage, fmt.Errorf(format, args...), hint)
}

// advice says what to exit with for an error, and what to do about it.
type advice struct {
	err  error
	code int
	hint string
}

// adviceTable is searched from the top; the first error that matches counts.
var adviceTable = []advice{
	{ticket.ErrTruncated, exitTicket, "copy the whole ticket; a double click selects all of it"},
	{ticket.ErrMistyped, exitTicket, "copy the ticket again instead of typing it"},
	{ticket.ErrNewer, exitTicket, "install the newest pairterm"},
	{ticket.ErrNotTicket, exitTicket, "the host's `pairterm host` prints the ticket, as a whole command to copy"},

	{keys.ErrNoIdentity, exitKey, "make a key with: pairterm keygen"},
	{keys.ErrWrongPassphrase, exitKey, "try again, or add the key to an agent with: ssh-add"},
	{keys.ErrPassphraseNeeded, exitKey, "add the key to an agent first, with: ssh-add"},
	{keys.ErrNotSigned, exitKey, "say yes when the agent asks, or touch the security key; or name another key: --identity FILE"},
	{keys.ErrExists, exitFile, "choose another file: pairterm keygen FILE"},
	{keys.ErrPrivateKey, exitKey, "give the public key, the file that ends in .pub"},
	{keys.ErrUnsuitableKey, exitKey, "make a new key with: pairterm keygen"},

	{tunnel.ErrWrongHost, exitWrongHost, "somebody else answered for this ticket; ask the host for a fresh one, over a way that you trust"},
	{tunnel.ErrBroken, exitWrongHost, "the signaling server or something on the way meddles; try another network or server"},
	{tunnel.ErrSilent, exitNoHost, "its machine may be asleep or its network down; try again, or ask the host"},
	{tunnel.ErrHostKey, exitWrongHost, "check with the host which key it uses, or leave out --host-key"},

	{peer.ErrHostGone, exitLost, "the host has stopped, or its machine is off; join again when it is back"},
	{link.ErrNoPath, exitNoPath, ""}, // see noPath.hints
	{link.ErrNoAnswer, exitNoPath, "the host let you in and then fell silent; try again"},
	{link.ErrHandshake, exitNoPath, "a path was found and too many packets were lost on it; try again"},
	{link.ErrBusy, exitNoPath, "too many guests are joining at this moment; try again"},

	{signal.ErrNoRoom, exitNoHost, "the host has ended its session or not started it yet; to wait for it: pairterm join TICKET --wait"},
	{signal.ErrRoomFull, exitRefused, "the session has as many guests as its server permits; try again later"},
	{signal.ErrRateLimited, exitNoServer, "too many attempts; wait a minute and try again"},
	{signal.ErrServerFull, exitNoServer, "try again later, or use another server: --signal URL"},
	{signal.ErrDetached, exitNoServer, "try again in a moment; if it stays so, tell the server's operator"},
	{signal.ErrShuttingDown, exitNoServer, "the server restarts; try again in a moment"},
	{signal.ErrNotAllowed, exitRefused, "send the server's operator your public key, for its --authorized-keys"},
	{signal.ErrProofRequired, exitRefused, "send the server's operator your public key, for its --authorized-keys"},
	{signal.ErrWrongServer, exitNoServer, "use the server's own name in its URL"},
	{signal.ErrNotASignalServer, exitNoServer, "check the URL: it must lead to a `pairterm signal`"},
	{signal.ErrVersion, exitNoServer, "use the same version of pairterm on both sides and on the server"},
	{signal.ErrReplaced, exitRefused, "another host with this session's name was started; stop that one, or choose another --name"},
	{signal.ErrUnreachable, exitNoServer, "check the URL, the network and that the server runs; one inside `pairterm host` ends with it, and is reached only within a LAN or VPN, if the host's firewall lets it"},
	{signal.ErrTimeout, exitNoServer, "check the network and try again"},
	{signal.ErrLost, exitNoServer, "check the network and try again"},

	{term.ErrHosting, exitSystem, "host from Linux, macOS or FreeBSD; Windows can join"},
	{term.ErrNotTerminal, exitSystem, "run it in a terminal"},

	{fs.ErrPermission, exitFile, "check the permissions of the file"},
	{fs.ErrNotExist, exitFile, "check the name of the file"},
	{context.DeadlineExceeded, exitError, "it took too long; try again"},
}

// refusalHints are for a guest who was refused.
var refusalHints = map[tunnel.RefusalCode]string{
	tunnel.RefusedExpired: "ask the host for a later expiry-time, or get a new certificate",
	tunnel.RefusedDenied:  "the person at the host said no",
	tunnel.RefusedFull:    "the session has as many guests as it takes; try again later",
	tunnel.RefusedProof:   "the proof did not hold; try another key with --identity",
	tunnel.RefusedVersion: "use the same version of pairterm on both sides",
	tunnel.RefusedEnding:  "the session is ending",
	tunnel.RefusedUnknown: "the host was started anew; join again",
}

// toCopy begins a hint that is a line to copy, and shown as it is.
const toCopy = "  "

// maxOffered is how many of the keys that were refused are told.
const maxOffered = 3

// hints returns what a person may do about err.
func hints(err error) []string {
	var f *failure
	if errors.As(err, &f) {
		return f.hints
	}
	var refused *tunnel.RefusedError
	if errors.As(err, &refused) {
		if h, ok := refusalHints[refused.Code]; ok {
			return []string{h}
		}
		if len(refused.Offered) == 0 {
			return []string{"make a key with `pairterm keygen` and send its public line to the host"}
		}
		var lines []string
		for _, o := range refused.Offered { // a certificate and its key have the same line
			if line := toCopy + keys.AuthorizedLine(o.Key, o.Comment); !slices.Contains(lines, line) && len(lines) < maxOffered {
				lines = append(lines, line)
			}
		}
		which := "this line"
		if len(lines) > 1 {
			which = "one of these lines"
		}
		hs := append([]string{"send the host " + which + ", to be allowed with: pairterm host --allow 'LINE'"}, lines...)
		if n := refused.Withheld; n > 0 {
			hs = append(hs, fmt.Sprintf("%d more of your keys were not offered; name the one to use: --identity FILE", n))
		}
		return hs
	}
	if n, ok := asNoPath(err, false); ok {
		return n.hints()
	}
	var setting *settingError
	if errors.As(err, &setting) {
		return []string{setting.hint()}
	}
	if a, ok := adviceFor(err); ok {
		return []string{a.hint}
	}
	return nil
}

func adviceFor(err error) (advice, bool) {
	for _, a := range adviceTable {
		if errors.Is(err, a.err) {
			return a, true
		}
	}
	return advice{}, false
}

// exitCode returns what the program exits with after err.
func exitCode(err error) int {
	var (
		f       *failure
		refused *tunnel.RefusedError
		caught  *term.SignalError
		config  *configError
		status  exitStatus
		mode    *keys.ModeError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &caught):
		return caught.Code()
	case errors.As(err, &config):
		return exitConfig
	case errors.As(err, &refused):
		return exitRefused
	case errors.As(err, &mode):
		return exitKey
	}
	if a, ok := adviceFor(err); ok {
		return a.code
	}
	return exitError
}

// exitStatus is the status of a shell that was shared, passed on as it is.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }
