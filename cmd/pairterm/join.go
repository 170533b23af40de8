package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/term"
	"github.com/pairterm/pairterm/term/screen"
)

// runJoin joins a session until it ends or the guest leaves.
func runJoin(ctx context.Context, std stdio, ui *ui, o joinOptions) (err error) {
	tty, err := term.OpenTTY(std.In, std.Out)
	if errors.Is(err, term.ErrNotTerminal) {
		return fail(exitSystem, errors.New("stdin and stdout are not a terminal"), "join from a terminal")
	}
	if err != nil {
		return err
	}
	defer tty.Close()
	oneProcessor()
	j := &joining{ui: ui, tty: tty, opts: o, painter: term.NewPainter(tty)}
	if o.trace {
		j.trace = newTrace()
	}
	ctx, release := term.Protect(ctx, tty, j.painter.Repaint)
	defer release()
	defer func() {
		if caught := signalled(ctx); caught != nil && err != nil {
			err = caught
		}
	}()
	log, closeLog, err := openLog(o.log, o.verbose)
	if err != nil {
		return err
	}
	defer closeLog()
	if err := j.prepare(ctx, log); err != nil {
		return err
	}
	defer j.mapPorts()()
	defer j.guest.Close()
	if err := j.connect(ctx); err != nil {
		return err
	}
	return j.attend(ctx)
}

// joining is a guest at its terminal.
type joining struct {
	ui      *ui
	tty     *term.TTY
	opts    joinOptions
	guest   *peer.Guest[*screen.Snapshot]
	painter *term.Painter
	portmap *portmap.Client // nil for no port mappings
	trace   *trace          // nil unless it was asked for

	mu   sync.Mutex
	path link.PathInfo // guarded by mu; the one that was told of last
}

// prepare finds out who the guest is and whom it wants to meet.
func (j *joining) prepare(ctx context.Context, log *slog.Logger) error {
	ids, err := findIdentities(ctx, j.ui, j.opts.identity, j.opts.verbose)
	if err != nil {
		return err
	}
	var hostKeys *keys.List
	if j.opts.hostKey != "" {
		if hostKeys, err = loadHostKeys(ctx, j.ui, j.opts.hostKey); err != nil {
			return err
		}
	}
	cfg := j.opts.paths.config()
	cfg.Logger = j.trace.over(log)
	if isLoopback(j.opts.ticket.Signal[0]) {
		cfg.Loopback = link.LoopbackAlways
	}
	j.portmap = j.opts.paths.portmap(j.opts.ticket.Signal, nil, log)
	cfg.PortMapper = asPortMapper(j.portmap)
	j.guest = peer.NewGuest(peer.GuestConfig[*screen.Snapshot]{
		Ticket:     j.opts.ticket,
		Identities: ids,
		HostKeys:   hostKeys,
		Signal:     &signal.Options{Identities: ids},
		Link:       cfg,
		Sink:       j.painter,
		Software:   software(),
		Wait:       j.opts.wait,
		OnStage: func(s peer.Stage) {
			if s == peer.StageAuthorizing {
				j.ui.done() // a passphrase may be asked for
			}
			j.ui.stage(s.String())
		},
		OnWait:   func(why error) { j.ui.stage("waiting for the host (" + whyAbsent(why) + ")") },
		OnStatus: j.showStatus,
		OnHistory: func(p []byte) {
			if err := j.painter.Scrollback(p); err != nil {
				log.Warn("scrollback of the host", "err", err)
			}
		},
		OnRole: func(r keys.Role) { j.painter.Notice(describeRole(r)) },
		Log:    log,
	})
	return nil
}

// mapPorts has the router forward ports, until the function that it returns is called.
func (j *joining) mapPorts() (stop func()) {
	if j.portmap == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = j.portmap.Run(ctx) // what failed is in the log
	}()
	return func() {
		cancel()
		<-ended
	}
}

// loadHostKeys reads the list of which the host must prove a key.
func loadHostKeys(ctx context.Context, ui *ui, spec string) (*keys.List, error) {
	grants, err := parseGrants("host-key", []string{spec}, keys.RoleType)
	if err != nil {
		return nil, err
	}
	list, err := loadList(ctx, "--host-key", keys.AllowlistOptions{
		Grants: grants,
		Warn:   func(err error) { ui.warnf("%v", err) },
	})
	if err != nil {
		return nil, err
	}
	if list.Current().Len() == 0 {
		return nil, fail(exitFile, fmt.Errorf("--host-key: there is no key in %s", keys.Printable(spec)), "name a file with the host's public key")
	}
	return list.Current(), nil
}

// connect meets the host and says how it went.
func (j *joining) connect(ctx context.Context) error {
	err := j.guest.Connect(ctx)
	j.ui.done()
	j.trace.printTo(j.ui)
	if err != nil {
		return err
	}
	host, info := j.guest.Host()
	name := keys.Printable(info.User + "@" + info.Host)
	if host.Key != nil {
		name += ", " + keys.Describe(host.Key, host.Comment)
	}
	path := j.guest.Status().Path
	j.newPath(path)
	how := describePath(path)
	j.ui.infof("joined %s to %s: %s", name, j.guest.Role(), how)
	if l := j.opts.leader; l != 0 {
		j.ui.infof("%s and then d leaves", l.Text())
	}
	how += j.howToLeave()
	if !j.opts.quiet {
		j.painter.Notice("pairterm: " + how)
	}
	if name := j.opts.save; name != "" {
		if err := saveTicket(name, j.opts.ticket); err != nil {
			j.ui.warnf("the ticket is not saved: %v", err)
		} else {
			j.ui.infof("from now on: pairterm join %s", name)
		}
	}
	return nil
}

// errLeft ends a session that the guest leaves.
var errLeft = errors.New("left")

// attend shows the session and passes on what is typed, until either ends.
func (j *joining) attend(ctx context.Context) error {
	_ = term.StartKeeper(j.tty) // without it only SIGKILL leaves a mess
	if err := j.tty.Raw(); err != nil {
		j.guest.Leave()
		return fail(exitSystem, err)
	}
	// A signal ends it, too, as if the guest had left; so does a terminal that is gone.
	g, gctx := errgroup.WithContext(context.WithoutCancel(ctx))
	leaving := func(err error) error {
		if gctx.Err() == nil {
			j.trace.end()
			j.guest.Leave()
		}
		return err
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return leaving(context.Cause(ctx))
		case <-gctx.Done():
			return nil
		}
	})
	var bye peer.Goodbye
	g.Go(func() (err error) {
		if bye, err = j.guest.Run(gctx); err == nil {
			err = errEnded
		}
		return err
	})
	g.Go(func() error { return leaving(j.painter.Run(gctx)) })
	g.Go(func() error { return j.followWindow(gctx) })
	g.Go(func() error { return j.fetchMissed(gctx) })
	g.Go(func() error {
		h := &guestKeys{joining: j, ctx: gctx}
		return leaving(term.NewKeyboard(h, term.KeyboardOptions{
			Leader:      j.opts.leader,
			DropAnswers: true,
			Mouse:       j.painter,
		}).Run(gctx, h.reader()))
	})
	err := g.Wait()
	j.tty.Restore()
	j.trace.printTo(j.ui)
	if n := j.guest.Undelivered(); n > 0 && bye.Reason != peer.ReasonEnded {
		j.ui.warnf("the last %d bytes that you typed did not arrive", n)
	}
	return j.farewell(ctx, bye, err)
}

// errEnded ends a session to which the host has said goodbye.
var errEnded = errors.New("ended")

// farewell says how the session ended, and returns what to exit with.
func (j *joining) farewell(ctx context.Context, bye peer.Goodbye, err error) error {
	switch {
	case signalled(ctx) != nil:
		return signalled(ctx)
	case errors.Is(err, errLeft):
		j.ui.infof("you left; the session goes on")
		return nil
	case !errors.Is(err, errEnded):
		return err
	}
	text := bye.Reason.String()
	if bye.Text != "" {
		text = keys.Printable(bye.Text)
	}
	switch bye.Reason {
	case peer.ReasonEnded:
		j.ui.infof("%s, with status %d", text, bye.Status)
		if bye.Status != 0 {
			return exitStatus(bye.Status & 0xff)
		}
		return nil
	case peer.ReasonStopped:
		j.ui.infof("%s", text)
		return nil
	case peer.ReasonRemoved:
		return fail(exitRefused, errors.New(text), "ask the host to allow the key again")
	}
	return fail(exitLost, errors.New(text))
}

// followWindow tells the host the size of the window.
func (j *joining) followWindow(ctx context.Context) error {
	for {
		window, _ := j.painter.Sizes()
		_ = j.guest.SendResize(window.Cols, window.Rows) // fails only when the session ends
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-j.painter.Resized():
		}
	}
}

// fetchMissed asks the host for what the terminal's scrollback lacks.
func (j *joining) fetchMissed(ctx context.Context) error {
	var from uint64
	var again <-chan time.Time // while there is no link
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case from = <-j.painter.Missed():
		case <-again:
		}
		again = nil
		if j.guest.AskHistory(from) != nil {
			again = time.After(time.Second)
		}
	}
}

// newPath notes the path in use, and reports whether it is worth a word.
func (j *joining) newPath(p link.PathInfo) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.path
	j.path = p
	return before.Network != "" && anotherWay(before, p)
}

// showStatus shows the state of the connection when there is trouble, and for a moment
// when there is another path.
func (j *joining) showStatus(s peer.Status) {
	if s.Linked && j.newPath(s.Path) && !j.opts.quiet {
		j.painter.Notice("pairterm: now " + describePath(s.Path))
	}
	switch {
	case s.Retry != nil:
		j.painter.Status(fmt.Sprintf("no connection, trying again%s (%s)", j.howToLeave(), brief(s.Retry)))
	case s.Stalled:
		j.painter.Status(fmt.Sprintf("nothing heard since %s, trying another path%s", time.Now().Format("15:04:05"), j.howToLeave()))
	default:
		j.painter.Status("")
	}
}

// howToLeave ends a line with the keys that leave, if there are any.
func (j *joining) howToLeave() string {
	if j.opts.leader == 0 {
		return ""
	}
	return "; " + j.opts.leader.Text() + " d leaves"
}

// whyAbsent tells why the host is not there in so few words that they fit in a line: those
// of the attempt that tells most, without its URL.
func whyAbsent(err error) string {
	var all *signal.DialError
	if errors.As(err, &all) && all.Best() != nil {
		err = all.Best().Err
	}
	if errors.Is(err, signal.ErrNoRoom) {
		return "it is not there"
	}
	return brief(err)
}

// brief is the beginning of an error, for one line.
func brief(err error) string {
	s, _, _ := strings.Cut(keys.Printable(err.Error()), ": dial")
	return s
}

func describeRole(r keys.Role) string {
	if r == keys.RoleType {
		return "pairterm: you may type now"
	}
	return "pairterm: you may only look now"
}

// guestKeys is what becomes of a guest's keys.
type guestKeys struct {
	*joining
	ctx  context.Context
	left bool
}

// Keys implements term.KeyboardHandler.
func (k *guestKeys) Keys(p []byte) {
	if k.guest.Role() != keys.RoleType {
		k.painter.Notice("pairterm: you may only look")
		return
	}
	_, _ = k.guest.SendKeys(k.ctx, p) // fails only when the session ends
}

// Leader implements term.KeyboardHandler.
func (k *guestKeys) Leader() {
	// What matters most comes first: a narrow window cuts the end.
	k.painter.Status(fmt.Sprintf("d leave  i info  arrows move  c follow  %s send it", k.opts.leader.Text()))
}

// Command implements term.KeyboardHandler.
func (k *guestKeys) Command(key term.Key) term.CommandResult {
	switch key {
	case 'd', 'D', '.':
		k.left = true
		return term.CommandDone
	case 'i':
		k.painter.Notice("pairterm: " + k.describe())
		return term.CommandDone
	case 'c':
		k.painter.FollowCursor()
		return term.CommandDone
	case '?':
		return term.CommandAgain
	}
	if dx, dy, ok := key.Arrow(); ok {
		k.painter.MoveView(dx, dy)
		return term.CommandAgain
	}
	return term.CommandUnknown
}

// Done implements term.KeyboardHandler.
func (k *guestKeys) Done() { k.painter.Status("") }

// describe tells about the connection in a line.
func (k *guestKeys) describe() string {
	st := k.guest.Stats()
	s := describePath(k.guest.Status().Path)
	if st.RTT > 0 {
		s = fmt.Sprintf("%s; round trip %s, loss %.0f %%", strings.SplitN(s, ",", 2)[0], describeRTT(st.RTT), 100*st.Loss)
	}
	return fmt.Sprintf("%s; you may %s", s, k.guest.Role())
}

// reader is the terminal, which ends when the guest has left.
func (k *guestKeys) reader() leavingReader { return leavingReader{k} }

type leavingReader struct{ k *guestKeys }

func (r leavingReader) Read(p []byte) (int, error) {
	if r.k.left {
		return 0, errLeft
	}
	return r.k.tty.Read(p)
}

func (r leavingReader) SetReadDeadline(t time.Time) error { return r.k.tty.SetReadDeadline(t) }
