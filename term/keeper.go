package term

// keeperEnv marks a process that was started as a keeper.
const keeperEnv = "PAIRTERM_KEEPER"

// maxKeeperBody bounds what a keeper is told at once, in bytes.
const maxKeeperBody = 3000

// A Keeper is a small process that gives the terminal back when this one is
// gone without having done so: killed by SIGKILL or by the kernel for want of
// memory, or crashed. It holds the terminal and the reading end of a pipe. The
// pipe tells it what there is to undo, and its end that the time has come. It
// has a session of its own and ignores signals, so that what is sent to the
// process group or the session of its parent does not reach it.
//
// It writes nothing when the parent restored the terminal itself.
//
// A nil Keeper keeps nothing.
type Keeper struct{ keeper }

// StartKeeper starts the keeper of t. The program must call RunKeeper first
// thing in main, because the keeper is the same program once more. Closing t
// ends it. It takes the place of debug.SetCrashOutput. Where there are no keepers (Windows, whose consoles reset
// themselves) it does nothing.
//
// A failure is no reason not to go on: the terminal is then at risk only where
// nothing can be run any more.
func StartKeeper(t *TTY) error {
	t.hands.Lock()
	defer t.hands.Unlock()
	if t.keeper != nil {
		return nil
	}
	k, err := startKeeper(t)
	if err != nil || k == nil {
		return err
	}
	t.keeper = k
	return nil
}
