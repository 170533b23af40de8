package term

type keeper struct{}

func startKeeper(*TTY) (*Keeper, error) { return nil, nil }

// RunKeeper reports that this process is not a keeper: there are none on
// Windows.
func RunKeeper() bool { return false }

func (k *Keeper) raw(saved, raw *settings) {}
func (k *Keeper) undo(p []byte)            {}
func (k *Keeper) cooked()                  {}
func (k *Keeper) close()                   {}
