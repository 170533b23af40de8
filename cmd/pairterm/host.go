package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/term"
	"github.com/pairterm/pairterm/term/record"
	"github.com/pairterm/pairterm/term/screen"
)

// runHost shares a shell until it ends.
func runHost(ctx context.Context, std stdio, ui *ui, o hostOptions) (err error) {
	if id := os.Getenv(envSession); id != "" && !o.nested {
		return fail(exitUsage, fmt.Errorf("this shell is shared already, as session %s", keys.Printable(id)),
			"leave it first, or share it within itself with: pairterm host --nested")
	}
	tty, err := hostTerminal(std, o.headless)
	if err != nil {
		return err
	}
	if tty != nil {
		defer tty.Close()
	}
	if err := checkRecord(o.record); err != nil {
		return err
	}
	command, err := term.ResolveCommand(o.command)
	if err != nil {
		return fail(exitSystem, err, "name a command that exists: pairterm host -- COMMAND")
	}
	say := newAnnouncer(ui, o.quiet)
	defer say.close()
	ctx, release := term.Protect(ctx, tty, say.repaint)
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
	h, err := prepareHost(ctx, say, o, log)
	if err != nil {
		return err
	}
	defer h.place.close()
	defer h.transport.Close()
	h.introduce(ui, o)
	return h.share(ctx, say, o, command, tty, log)
}

// hostTerminal opens the host's own terminal, nil when headless.
func hostTerminal(std stdio, headless bool) (*term.TTY, error) {
	if headless {
		return nil, nil
	}
	tty, err := term.OpenTTY(std.In, std.Out)
	if errors.Is(err, term.ErrNotTerminal) {
		return nil, fail(exitSystem, errors.New("stdin and stdout are not a terminal"),
			"to share without one, as a service or in CI: pairterm host --headless")
	}
	return tty, err
}

// hosting is everything that a host has before its shell starts.
type hosting struct {
	key       ed25519.PrivateKey
	list      *keys.Allowlist
	identity  keys.Identity // may be nil
	place     *meetingPlace
	transport *link.Transport
	portmap   *portmap.Client // nil for no port mappings
}

// prepareHost finds out who may come in, and where guests are met.
func prepareHost(ctx context.Context, say *announcer, o hostOptions, log *slog.Logger) (*hosting, error) {
	h := &hosting{}
	ui := say.ui
	ids, err := findIdentities(ctx, ui, o.identity, o.verbose)
	if errors.Is(err, keys.ErrNoIdentity) && o.identity == "" {
		if ids, err = nil, nil; len(o.grants) == 0 {
			ids, err = freshIdentity(ctx, ui, o)
		}
	}
	if err != nil {
		return nil, err
	}
	if h.identity, err = hostIdentity(ctx, o.identity, ids); err != nil {
		return nil, err
	}
	if h.list, err = loadAccess(ctx, ui, o, ids, say.warn); err != nil {
		return nil, err
	}
	listen := o.signalListen
	var session namedSession
	if o.name == "" {
		_, h.key, err = ed25519.GenerateKey(nil)
	} else if session, h.key, err = loadNamedSession(o.name); listen == "" {
		listen = session.Listen
	}
	if err != nil {
		return nil, err
	}
	if h.place, err = openMeetingPlace(ctx, h.key, o, listen, ids); err != nil {
		return nil, err
	}
	if o.name != "" && h.place.inside != nil {
		session.Listen = h.place.address()
		if err := session.save(o.name); err != nil {
			h.place.close()
			return nil, err
		}
	}
	cfg := o.paths.config()
	cfg.Port, cfg.TCPPort, cfg.Public, cfg.Logger = o.port, o.tcpPort, o.publicAddrs, log
	if len(cfg.STUN) == 0 {
		cfg.STUN = h.place.stun
	}
	if h.place.loopback {
		cfg.Loopback = link.LoopbackAlways
	}
	if h.place.inside == nil { // whom the server inside is for reaches this machine as it is
		var tell func(string)
		if o.verbose {
			tell = say.info
		}
		h.portmap = o.paths.portmap(h.place.ticket.Signal, tell, log)
	}
	cfg.PortMapper = asPortMapper(h.portmap)
	if h.transport, err = link.NewTransport(cfg); err == nil {
		_, err = h.transport.Listen()
	}
	if err != nil {
		h.place.close()
		return nil, portFailure(err, o)
	}
	return h, nil
}

// freshIdentity makes a key on a machine where there is none, unless a list says who
// is allowed.
func freshIdentity(ctx context.Context, ui *ui, o hostOptions) ([]keys.Identity, error) {
	if grants, err := keys.DefaultGrants(); err != nil || len(grants) > 0 {
		return nil, err
	}
	if err := ensureOwnKey(ctx, ui); err != nil {
		return nil, err
	}
	return findIdentities(ctx, ui, "", o.verbose)
}

// maxListed is how many lines of who is allowed are printed.
const maxListed = 10

// introduce prints who is allowed and how to join.
func (h *hosting) introduce(ui *ui, o hostOptions) {
	entries := h.list.Current().Entries()
	if len(entries) > 0 {
		ui.infof("allowed to join:")
	}
	for _, e := range entries[:min(len(entries), maxListed)] {
		ui.printf("  %s", who(e))
	}
	if more := len(entries) - maxListed; more > 0 {
		ui.printf("  and %d more", more)
	}
	if h.identity != nil {
		ui.infof("you prove %s", keys.Describe(h.identity.Public(), h.identity.Comment()))
	}
	if o.verbose {
		for _, u := range h.place.ticket.Signal {
			ui.infof("meeting at %s", u)
		}
	}
	ui.infof("they join with:")
	ui.printf("\n  pairterm join %s\n", h.place.ticket)
}

// share runs the shell, with guests, until it ends.
func (h *hosting) share(ctx context.Context, say *announcer, o hostOptions, command term.Command, tty *term.TTY, log *slog.Logger) error {
	id := o.name
	if id == "" {
		id = h.place.ticket.String()[3:11]
	}
	command.Env = term.Environ(os.Environ(), []string{envSession + "=" + id, envTicket + "=" + h.place.ticket.String()}, secretEnvironment)
	commands := &hostKeys{leader: o.leader}
	if h.portmap != nil {
		commands.mappings = h.portmap.Mappings
	}
	shared := term.NewShared(command, term.SharedOptions{
		TTY:             tty,
		Keyboard:        commands,
		Leader:          o.leader,
		ScrollbackBytes: scrollbackBytes(o.scrollback),
		Banner:          say.ui.soFar(),
	})
	recorder, err := newRecorder(o, shared)
	if err != nil {
		return err
	}
	procs := oneProcessor()
	host, err := peer.NewHost(peer.HostConfig[*screen.Snapshot]{
		Key:       h.key,
		Identity:  h.identity,
		Authorize: authorizer(h.list, log),
		Pipes:     entrance{h.place.listener, h.portmap},
		Transport: h.transport,
		Source:    shared,
		NewInput:  func(_ peer.GuestInfo, ready func()) peer.GuestInput { return newGuestInput(shared, ready, o.smallest) },
		Info:      func() peer.Info { return describeSession(shared, o.name) },
		History:   func(from uint64) []byte { return shared.Scrollback(from, maxHistoryLines, peer.MaxHistory) },
		Observe: func(e peer.Event) {
			switch e.(type) {
			case peer.Joined, peer.Left:
				procs.serve(len(commands.guests()))
			}
			say.info(describeEvent(e))
			for _, line := range elaborate(e) {
				log.Info("more", "text", line)
				if o.verbose {
					say.info(line)
				}
			}
			if label := markerLabel(e); recorder != nil && label != "" {
				recorder.Marker(label)
			}
		},
		Log: log,
	})
	if err != nil {
		return err
	}
	commands.screen, commands.guests = shared, host.Guests
	if tty != nil {
		if err := term.StartKeeper(tty); err != nil {
			log.Warn("no keeper for the terminal", "err", err)
		}
		if err := tty.Raw(); err != nil {
			return fail(exitSystem, err)
		}
		say.through(shared)
	}
	// A signal ends the shell first; guests are told afterwards.
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(sctx)
	g.Go(func() error { return h.list.Run(gctx) })
	g.Go(func() error { return host.Run(gctx) })
	if h.portmap != nil {
		g.Go(func() error { return h.portmap.Run(gctx) })
	}
	if recorder != nil {
		g.Go(func() error {
			if err := recorder.Run(gctx); err != nil {
				say.warn(err) // the session goes on without
			}
			return nil
		})
	}
	g.Go(func() error {
		for {
			select {
			case <-h.list.Changes():
			case s := <-h.place.states:
				log.Debug("signaling server", "url", s.URL, "phase", s.Phase, "err", s.Err, "retry", s.Retry)
				say.info(describeState(s))
				continue
			case <-gctx.Done():
				return nil
			}
			host.Recheck(gctx)
		}
	})
	runErr := shared.Run(ctx)
	status := shared.ExitStatus()
	host.End(farewell(ctx, runErr, status.Code()))
	stop()
	waitErr := g.Wait()
	if tty != nil {
		say.through(nil)
		tty.Restore()
	}
	switch {
	case runErr != nil:
		return runErr
	case waitErr != nil && !errors.Is(waitErr, context.Canceled):
		return waitErr
	case status.Code() != 0:
		return exitStatus(status.Code())
	}
	return nil
}

// entrance is where guests come in: by way of the signaling servers, and then through
// the router.
type entrance struct {
	*signal.Listener
	portmap *portmap.Client // nil for no port mappings
}

// Check makes sure that both are open, since something is amiss.
func (e entrance) Check() {
	e.Listener.Check()
	if e.portmap != nil {
		e.portmap.Check()
	}
}

// scrollbackBytes is what package term calls a number of bytes, of which zero are none.
func scrollbackBytes(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// guestInput is a guest's input, whose window may bound the shared terminal's.
type guestInput struct {
	*term.Input
	bound *term.Constraint // nil unless the smallest window decides
}

func newGuestInput(shared *term.Shared, ready func(), smallest bool) *guestInput {
	i := &guestInput{}
	i.Input = shared.NewInput(term.InputOptions{Ready: ready})
	if smallest {
		i.bound = shared.Constrain()
	}
	return i
}

// Resize implements peer.GuestInput.
func (i *guestInput) Resize(cols, rows int) {
	switch {
	case i.bound == nil:
	case cols == 0 || rows == 0:
		i.bound.Release()
	default:
		i.bound.Set(term.Size{Cols: cols, Rows: rows})
	}
}

// Close implements peer.GuestInput.
func (i *guestInput) Close() {
	if i.bound != nil {
		i.bound.Release()
	}
	i.Input.Close()
}

// checkRecord says early what newRecorder would say when the ticket has been printed.
func checkRecord(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fail(exitFile, fmt.Errorf("--record: %w", err), "name a file in a directory that exists")
	}
	if _, err := os.Lstat(path); err == nil {
		return recordExists(&fs.PathError{Op: "open", Path: path, Err: fs.ErrExist})
	}
	return nil
}

func recordExists(err error) error {
	return fail(exitFile, fmt.Errorf("--record: %w", err), "recordings are never overwritten; name another file: --record FILE")
}

// newRecorder returns what records the session, nil if nobody asked for it.
func newRecorder(o hostOptions, shared *term.Shared) (*record.Recorder, error) {
	if o.record == "" {
		return nil, nil
	}
	opts := record.Options{Title: o.name, Env: map[string]string{"TERM": os.Getenv("TERM"), "SHELL": os.Getenv("SHELL")}}
	if len(o.command) > 0 {
		opts.Command = strings.Join(o.command, " ")
	}
	r, err := record.Create(o.record, shared, opts)
	if errors.Is(err, fs.ErrExist) {
		return nil, recordExists(err)
	}
	return r, err
}

// maxHistoryLines is how many lines of scrollback a guest gets at most, at once.
const maxHistoryLines = 2000

// farewell is what guests are told at the end.
func farewell(ctx context.Context, err error, status int) peer.Goodbye {
	if err == nil {
		return peer.Goodbye{Reason: peer.ReasonEnded, Status: status}
	}
	if signalled(ctx) != nil {
		return peer.Goodbye{Reason: peer.ReasonStopped}
	}
	return peer.Goodbye{Reason: peer.ReasonFailed, Text: err.Error()}
}

// describeSession is what a guest that was let in is told.
func describeSession(shared *term.Shared, name string) peer.Info {
	size := shared.Size()
	info := peer.Info{Cols: size.Cols, Rows: size.Rows, Session: name, Title: title(shared)}
	if u, err := user.Current(); err == nil {
		info.User = u.Username
	}
	info.Host, _ = os.Hostname()
	return info
}

// title is the title of the shared terminal.
func title(shared *term.Shared) string {
	snap, _ := shared.Mark()
	return snap.Title()
}
