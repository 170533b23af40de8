package term

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// DefaultGrace is how long a shell may take to end after its terminal was hung
// up, before it is killed.
const DefaultGrace = 2 * time.Second

// SharedOptions are what a Shared is made of.
type SharedOptions struct {
	// TTY is the host's own terminal, raw; nil for a host without one, where
	// the model answers what programs ask their terminal.
	TTY *TTY
	// Size is that of the shared terminal where TTY is nil, or DefaultSize.
	Size Size
	// Keyboard receives commands of the host, and nothing else: keys go to the
	// shell. It may be nil.
	Keyboard CommandHandler
	// Leader is the key before a command, if Keyboard is not nil.
	Leader Leader
	// OnResize, if not nil, is told when the shared terminal has another size.
	// It must return at once.
	OnResize func(Size)
	// ScrollbackBytes bounds the memory for lines that left the screen; zero
	// means a default, a negative number none.
	ScrollbackBytes int
	// Banner is shown before the program's output, as part of it, on the host's
	// own terminal and to guests; lines end in "\r\n". Without a TTY it is not used.
	Banner string
	// Grace replaces DefaultGrace.
	Grace time.Duration
}

// CommandHandler is the part of KeyboardHandler that is about commands.
type CommandHandler interface {
	Leader()
	Command(key Key) CommandResult
	Done()
}

// Shared is a terminal that is shared: a program behind a PTY, the host's own
// terminal on it, and what guests need to see it and to type.
//
// The host's own terminal gets the program's output first and as it is. For
// guests it is a Source of package stream with *screen.Snapshot as its state;
// nothing that they do or fail to do holds it up. All methods may be called
// from any goroutine at any time.
type Shared struct {
	*source // Head, Mark, Since, AppendDiff, Subscribe, Held

	// Set once.
	command Command
	opts    SharedOptions
	inputs  *inputs
	display *display // nil without a terminal

	fitting chan struct{} // holds one notice that the size may have to change

	mu     sync.Mutex
	proc   *process // nil before Run
	window Size     // what the host itself has
	limits map[*Constraint]Size
	size   Size
	ran    bool
	status ExitStatus
}

// NewShared returns a terminal for c. Nothing is started yet: Run does that.
func NewShared(c Command, o SharedOptions) *Shared {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	s := &Shared{
		command: c,
		opts:    o,
		inputs:  newInputs(),
		fitting: make(chan struct{}, 1),
		limits:  make(map[*Constraint]Size),
	}
	s.window = o.Size
	if o.TTY != nil {
		s.window, _ = o.TTY.Size()
	}
	if s.window == (Size{}) {
		s.window = DefaultSize
	}
	s.window = s.window.Clamp()
	s.size = s.window
	s.source = newSource(s.size, screen.Options{
		ScrollbackBytes: o.ScrollbackBytes,
		Reply:           s.reply,
	}, o.TTY == nil)
	if o.TTY != nil {
		s.display = newDisplay(o.TTY, s.source, s.window)
	}
	return s
}

// Run starts the program and shares its terminal until the program ends. When
// ctx ends, the terminal is hung up, which ends most programs, and the rest is
// killed after the grace time; then Run returns the cause of ctx's end. It
// returns after all that it started has ended. It may be called once.
func (s *Shared) Run(ctx context.Context) error {
	p, err := s.start()
	if err != nil {
		return err
	}
	// The terminal's output ends what only serves it.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var waited, served sync.WaitGroup

	waited.Go(func() {
		s.setStatus(p.wait())
		p.quiet()
	})
	waited.Go(func() { s.hangup(ctx, p) })
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		s.feed()
	}()
	if s.display != nil {
		s.display.begin(s.opts.Banner)
	}
	s.inputs.open(p)
	served.Go(func() { s.inputs.run(serving) })
	served.Go(func() { s.fitLoop(serving, p) })
	if s.display != nil {
		served.Go(func() { s.display.run(serving) })
		served.Go(func() { s.watchWindow(serving) })
		served.Go(func() { s.readKeyboard(serving) })
	}

	err = s.readOutput(p)
	p.close() // which ends a write that the program does not read
	s.end()
	<-fed
	stop()
	served.Wait()
	waited.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *Shared) start() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran {
		return nil, errors.New("term: Run was called twice")
	}
	s.ran = true
	p, err := startProcess(s.command, s.size, s.opts.TTY)
	if err != nil {
		return nil, err
	}
	s.proc = p
	return p, nil
}

// hangup ends the program when ctx ends before it.
func (s *Shared) hangup(ctx context.Context, p *process) {
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	}
	if s.opts.TTY != nil {
		// A terminal that takes no more must not hold up the end.
		_ = s.opts.TTY.SetWriteDeadline(time.Now().Add(s.opts.Grace))
	}
	p.hangup()
	select {
	case <-p.done:
	case <-time.After(s.opts.Grace):
		p.kill()
	}
}

// readOutput distributes the program's output until its end.
func (s *Shared) readOutput(p *process) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := p.Read(buf)
		if n > 0 {
			if s.display != nil {
				s.display.output(buf[:n])
			} else {
				s.append(buf[:n])
			}
		}
		if err != nil {
			if isEnd(err) {
				return nil
			}
			return err
		}
	}
}

// readKeyboard takes what the host types.
func (s *Shared) readKeyboard(ctx context.Context) {
	h := &localKeys{ctx: ctx, in: s.inputs.local, commands: s.opts.Keyboard, room: make(chan struct{}, 1)}
	h.in.onReady(h.ready)
	o := KeyboardOptions{Mouse: s.display}
	if s.opts.Keyboard != nil {
		o.Leader = s.opts.Leader
	}
	// When the terminal is gone, SIGHUP says so, too.
	_ = NewKeyboard(h, o).Run(ctx, s.opts.TTY)
}

// localKeys gives the host's keys to the shell.
type localKeys struct {
	ctx      context.Context
	in       *Input
	commands CommandHandler
	room     chan struct{} // holds one notice that there is room again
}

func (h *localKeys) ready() {
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// Keys waits while a whole large paste is not read: then the host's terminal
// may wait as well, as with any program that does not read.
func (h *localKeys) Keys(p []byte) {
	for {
		n := h.in.Keys(p)
		if p = p[n:]; len(p) == 0 {
			return
		}
		select {
		case <-h.room:
		case <-h.ctx.Done():
			return
		}
	}
}

func (h *localKeys) Leader() { h.commands.Leader() }

func (h *localKeys) Command(key Key) CommandResult { return h.commands.Command(key) }

func (h *localKeys) Done() { h.commands.Done() }

// watchWindow follows the size of the host's own terminal.
func (s *Shared) watchWindow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-s.opts.TTY.Resized():
			if !ok {
				return
			}
			size, err := s.opts.TTY.Size()
			if err != nil {
				continue
			}
			s.mu.Lock()
			s.window = size
			s.mu.Unlock()
			s.fit()
		}
	}
}

// reply answers, for the terminal that is not there, what the program asked.
// Where there is one that gets all output, it answers itself.
func (s *Shared) reply(answer []byte) {
	if s.display == nil || !s.display.answers() {
		s.inputs.local.Keys(answer)
	}
}

// WriteInput types p, as the host. It returns how many bytes were taken: less
// than all when the program does not read and a megabyte is waiting.
func (s *Shared) WriteInput(p []byte) (n int) { return s.inputs.local.Keys(p) }

// NewInput returns the input of a guest. It should be closed when the guest
// has left.
func (s *Shared) NewInput(o InputOptions) *Input { return s.inputs.add(o) }

// ExitStatus returns how the program ended. It is the zero ExitStatus before.
func (s *Shared) ExitStatus() ExitStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *Shared) setStatus(status ExitStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Size returns the size of the shared terminal.
func (s *Shared) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Resize changes the size that the host itself has, for a host without a
// terminal of its own.
func (s *Shared) Resize(size Size) {
	s.mu.Lock()
	s.window = size.Clamp()
	s.mu.Unlock()
	s.fit()
}

// A Constraint keeps the shared terminal from being larger than one guest's
// window (as tmux does).
type Constraint struct{ shared *Shared }

// Constrain returns a Constraint that allows any size yet. It should be
// released when the guest has left.
func (s *Shared) Constrain() *Constraint { return &Constraint{shared: s} }

// Set allows no larger size than this.
func (c *Constraint) Set(size Size) {
	s := c.shared
	s.mu.Lock()
	s.limits[c] = size.Clamp()
	s.mu.Unlock()
	s.fit()
}

// Release allows any size again.
func (c *Constraint) Release() {
	s := c.shared
	s.mu.Lock()
	delete(s.limits, c)
	s.mu.Unlock()
	s.fit()
}

// fit makes the shared terminal as large as the host and all constraints
// allow.
func (s *Shared) fit() {
	select {
	case s.fitting <- struct{}{}:
	default:
	}
}

func (s *Shared) fitLoop(ctx context.Context, p *process) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.fitting:
		}
		window, size, changed := s.fitted()
		s.change(p, window, size, changed)
	}
}

// fitted settles what the size is from now on.
func (s *Shared) fitted() (window, size Size, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	window, size = s.window, s.window
	for _, limit := range s.limits {
		size = size.Min(limit)
	}
	changed = size != s.size
	s.size = size
	return window, size, changed
}

// change gives the terminal another size. The model has it before the program
// does, so that it is there for all output that knows of it.
func (s *Shared) change(p *process, window, size Size, changed bool) {
	width, height := 0, 0
	if s.display != nil {
		width, height = s.opts.TTY.cellPixels()
		s.display.resize(window, size, changed)
	} else if changed {
		s.resize(size)
	}
	if !changed {
		return
	}
	_ = p.resize(size, width, height)
	if s.opts.OnResize != nil {
		s.opts.OnResize(size)
	}
}

// MoveView moves the part of the shared screen that the host's own terminal
// shows, by steps of half of it to the right and down, and reports whether it
// shows only a part.
func (s *Shared) MoveView(dx, dy int) bool {
	return s.display != nil && s.display.move(dx, dy)
}

// Notice shows a line of text on the host's own terminal for some seconds. It
// leaves no trace, also over full-screen programs.
func (s *Shared) Notice(text string) {
	if s.display != nil {
		s.display.notice(text)
	}
}

// Status shows a line of text on the host's own terminal until another, or
// none, takes its place. A notice goes before it.
func (s *Shared) Status(text string) {
	if s.display != nil {
		s.display.status(text)
	}
}

// Repaint draws the host's own terminal anew, for when something else has
// written to it.
func (s *Shared) Repaint() {
	if s.display != nil {
		s.display.repaint()
	}
}

// isEnd reports whether reading ended because there is no more.
func isEnd(err error) bool {
	return isGone(err) || errors.Is(err, os.ErrClosed)
}
