// Package term holds everything about terminals: the user's own terminal, the
// shell behind a PTY, the terminal that is shared, and the painting of it on a
// guest's terminal. It knows nothing of networks.
//
// A host uses [OpenTTY] and [TTY.Raw] for its own terminal, [StartKeeper] and
// [Protect] so that the terminal comes back whatever happens, and [NewShared]
// for the shell that is shared:
//
//	func main() {
//		if term.RunKeeper() {
//			return
//		}
//		…
//		tty, err := term.OpenTTY(os.Stdin, os.Stdout)
//		defer tty.Close() // restores, too
//		ctx, release := term.Protect(ctx, tty, func() { shared.Repaint() })
//		defer release()
//		err = term.StartKeeper(tty)
//		err = tty.Raw()
//		command, err := term.ResolveCommand(nil)
//		shared = term.NewShared(command, term.SharedOptions{TTY: tty})
//		err = shared.Run(ctx) // until the shell ends
//		code := shared.ExitStatus().Code()
//
// A guest uses the same [TTY] with a [Painter], which takes the host's output,
// and a [Keyboard], which tells what is typed from commands to pairterm, and
// which is given the Painter to translate the mouse. Each has a Run. What
// [Painter.Missed] asks for is to be got from [Shared.Scrollback].
//
// # What it promises
//
// A terminal that was made raw comes back to its settings and modes on every
// way out that a process can see, and, with a keeper, on those that it cannot.
// Whatever a guest does, the PTY is read, and the host's own terminal is
// served first. Nothing here writes to a terminal after it was restored.
//
// # What it does not
//
// It hosts no shells on Windows: guests run there, hosts do not.
package term
