package term

import "context"

// ReadPassword asks for a secret on the controlling terminal (the console, on
// Windows), whatever the standard streams are, and reads a line that is not
// shown. It returns the line without its end. The terminal is as it was
// before when ReadPassword returns: also when ctx ends first (its error is
// returned), and on SIGINT, SIGTERM, SIGHUP and SIGQUIT (a *SignalError is).
//
// It fails with ErrNotTerminal when there is no terminal to ask on.
func ReadPassword(ctx context.Context, prompt string) ([]byte, error) {
	return readPassword(ctx, prompt)
}

// maxPassword bounds a password, in bytes. Terminals pass on lines of some
// thousand at most.
const maxPassword = 4096
