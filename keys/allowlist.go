package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollInterval is how often watched files are read. Together with
	// settleTime it keeps a removal under two seconds.
	pollInterval = time.Second
	// noPoll is how long Run waits where there is nothing to look after.
	noPoll = time.Hour
	// settleTime is how long a changed file must stay as it is before it
	// counts, so that one that an editor is just writing is not read in part.
	settleTime = 200 * time.Millisecond
	// maxSettle is after how many different contents in a row a file that
	// does not come to rest counts all the same.
	maxSettle = 4
)

// Grant gives the holders of the keys of a list a role: what --allow and
// --view stand for.
type Grant struct {
	Source Source
	// Role is what lines without a role of their own give, and the most that
	// any line of the list can give: a role="type" in a list that was given
	// for viewing is capped, with a warning.
	Role Role
}

// DefaultGrants returns what is allowed when nothing was said: the list
// authorized_keys in [ConfigDir], for typing, if that file exists.
func DefaultGrants() ([]Grant, error) {
	dir, err := ConfigDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "authorized_keys")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return []Grant{{Source{spec: path, kind: SourceFile, arg: path}, RoleType}}, nil
}

// AllowlistOptions configures an [Allowlist]. The zero value holds no grants
// and admits nobody.
type AllowlistOptions struct {
	Grants []Grant

	// Warn, if set, is told what a host should know but need not act upon at
	// once: a list that cannot be read or has bad lines, a list from the cache
	// (*StaleError), a key with different roles. The same warning is not
	// repeated until something changed. It is called by the goroutines that run
	// Load, Add and Run, with no lock held.
	Warn func(error)

	GitHubURL string            // base address, https://github.com if empty
	GitLabURL string            // base address, https://gitlab.com if empty
	CacheDir  string            // for copies of fetched lists; keys in [CacheDir] if empty
	Transport http.RoundTripper // for fetching; a default one if nil
}

// Allowlist keeps a [List] made of several sources current. Its methods may be
// called from any goroutine.
//
// All sources are read by [Allowlist.Load], which may be called again at any
// time. Files are also watched while [Allowlist.Run] runs: by reading them once
// a second and comparing, which follows edits in place, atomic renames, swapped
// symbolic links (mounted secrets) and network file systems alike. What was
// fetched from the network, or read from a pipe, stays until the next Load.
//
// Once loaded, a source that can no longer be read keeps its last good list. In
// a file that has bad lines the good lines count, and a key that now stands
// only in a bad line keeps what it had; but if no line is good at all and none
// of the keys is still mentioned, the file is taken for something else that
// fell into its place, and keeps its last good list too. Each case is a
// warning.
type Allowlist struct {
	// Set once.
	fetcher fetcher
	warn    func(error)
	changes chan struct{} // of capacity one
	loaded  chan struct{} // of capacity one: Run may have more to look after

	current atomic.Pointer[List]

	mu        sync.Mutex
	lists     []*grantedList  // guarded by mu
	conflicts map[string]bool // guarded by mu; role conflicts that were told
}

// grantedList is one source and what was last read from it. Its fields but the
// grant are guarded by Allowlist.mu.
type grantedList struct {
	grant Grant

	loaded  bool // once: entries hold a good list
	once    bool // cannot be read again (a pipe)
	entries []Entry
	sum     [sha256.Size]byte // of what entries were parsed from

	next     [sha256.Size]byte // of a newer content that has yet to settle
	seen     int               // how many newer contents there were
	failures int               // how often in a row it could not be read
	warned   string            // what was last warned about
}

// content is what reading a source gave.
type content struct {
	data []byte
	once bool  // see grantedList
	warn error // something to tell besides
}

// NewAllowlist returns an allowlist that admits nobody until it is loaded.
func NewAllowlist(o AllowlistOptions) (*Allowlist, error) {
	if o.GitHubURL == "" {
		o.GitHubURL = "https://github.com"
	}
	if o.GitLabURL == "" {
		o.GitLabURL = "https://gitlab.com"
	}
	if o.CacheDir == "" {
		dir, err := CacheDir()
		if err == nil {
			o.CacheDir = filepath.Join(dir, "keys")
		}
		// Without a home directory there is no cache; fetching still works.
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	a := &Allowlist{
		fetcher:   fetcher{transport: o.Transport, gitHub: o.GitHubURL, gitLab: o.GitLabURL, cacheDir: o.CacheDir},
		warn:      o.Warn,
		changes:   make(chan struct{}, 1),
		loaded:    make(chan struct{}, 1),
		conflicts: map[string]bool{},
	}
	for _, g := range o.Grants {
		l, err := newGrantedList(g)
		if err != nil {
			return nil, err
		}
		a.lists = append(a.lists, l)
	}
	a.current.Store(NewList())
	return a, nil
}

func newGrantedList(g Grant) (*grantedList, error) {
	if g.Role != RoleView && g.Role != RoleType {
		return nil, fmt.Errorf("%s: invalid role %v", printablePath(g.Source.String()), g.Role)
	}
	if g.Source.kind == 0 {
		return nil, errors.New("grant without a source")
	}
	return &grantedList{grant: g}, nil
}

// Current returns the list as it is now. It is never nil.
func (a *Allowlist) Current() *List { return a.current.Load() }

// Changes returns the channel that receives a value after [Allowlist.Current]
// changed, or an entry of it expired while Run runs. Changes that follow one
// another before they are received are one value, so there should be only one
// receiver, which then looks up every live key again.
func (a *Allowlist) Changes() <-chan struct{} { return a.changes }

// Load reads every source, fetching several at a time.
//
// The first Load is strict: unless every source can be read and no file has a
// bad line, it returns an error that names all that is wrong, and the list
// stays empty. (A fetched list is another person's, whom an old DSA key should
// not lock out: there bad lines are warnings as long as a good one is left.)
// In later calls sources that fail keep what they have; the error names them.
func (a *Allowlist) Load(ctx context.Context) error {
	a.mu.Lock()
	lists := slices.Clone(a.lists)
	a.mu.Unlock()
	return a.load(ctx, lists)
}

// Add grants one more source, after it was loaded without an error.
func (a *Allowlist) Add(ctx context.Context, g Grant) error {
	l, err := newGrantedList(g)
	if err != nil {
		return err
	}
	if err := a.load(ctx, []*grantedList{l}); err != nil {
		return err
	}
	a.mu.Lock()
	a.lists = append(a.lists, l)
	warnings := a.publishLocked()
	a.mu.Unlock()
	a.rouse()
	a.tell(warnings)
	return nil
}

// rouse has Run see what there is to look after.
func (a *Allowlist) rouse() {
	select {
	case a.loaded <- struct{}{}:
	default:
	}
}

func (a *Allowlist) load(ctx context.Context, lists []*grantedList) error {
	contents := make([]content, len(lists))
	errs := make([]error, len(lists))
	var wg sync.WaitGroup
	for i, l := range lists {
		a.mu.Lock()
		skip := l.once && l.loaded
		a.mu.Unlock()
		if !skip {
			wg.Go(func() { contents[i], errs[i] = a.read(ctx, l.grant.Source) })
		}
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}

	var warnings []error
	a.mu.Lock()
	for i, l := range lists {
		if errs[i] == nil && !(l.once && l.loaded) {
			var told []error
			told, errs[i] = l.applyLocked(contents[i])
			warnings = append(warnings, told...)
		}
		if errs[i] != nil && !isParseError(errs[i]) {
			errs[i] = fmt.Errorf("%s: %w", printablePath(l.grant.Source.name()), errs[i])
		}
	}
	warnings = append(warnings, a.publishLocked()...)
	a.mu.Unlock()
	a.rouse()
	a.tell(warnings)
	return errors.Join(errs...)
}

// isParseError tells whether err names its file by itself.
func isParseError(err error) bool {
	var p *ParseError
	return errors.As(err, &p)
}

// read returns the text of a source.
func (a *Allowlist) read(ctx context.Context, s Source) (content, error) {
	switch {
	case s.kind == SourceLine:
		return content{data: []byte(s.arg)}, nil
	case s.Remote():
		data, warn, err := a.fetcher.fetch(ctx, s)
		return content{data: data, warn: warn}, err
	}
	return readListFile(ctx, s.arg)
}

// applyLocked makes the list what c says and returns what to warn about, if
// that is news. An error means that the list stays as it is.
func (l *grantedList) applyLocked(c content) (warnings []error, err error) {
	source := l.grant.Source
	withOptions := source.kind != SourceGitHub && source.kind != SourceGitLab
	entries, err := parseList(source.name(), c.data, l.grant.Role, withOptions)
	var bad *ParseError
	if err != nil && !errors.As(err, &bad) {
		return nil, err
	}
	if c.warn != nil {
		warnings = append(warnings, c.warn)
	}
	for i := range entries {
		e := &entries[i]
		if e.Comment == "" && source.Remote() {
			e.Comment = source.spec // GitHub sends none
		}
		if e.Role > l.grant.Role {
			warnings = append(warnings, fmt.Errorf("%s: the line says %q, but the list was given for %q, which holds", e.Where(), e.Role, l.grant.Role))
			e.Role = l.grant.Role
		}
	}
	switch {
	case source.Remote() && bad == nil && len(entries) == 0 && source.kind != SourceURL:
		return nil, errors.New("the account has no public keys there")
	case source.Remote() && len(entries) == 0 && bad != nil:
		return nil, fmt.Errorf("%s: there is no usable key in what the server sent\n%w", printablePath(source.name()), bad)
	case source.Remote() && len(entries) == 0:
		return nil, errors.New("there is no usable key in what the server sent")
	case source.Remote() && bad != nil:
		warnings = append(warnings, bad)
	case bad != nil && !l.loaded:
		return nil, bad
	case bad != nil:
		kept := keptEntries(l.entries, entries, bad)
		if len(entries) == 0 && len(kept) == 0 {
			kept = l.entries
		}
		entries = append(entries, kept...)
		warnings = append(warnings, bad)
	}
	l.loaded, l.once = true, c.once
	l.entries, l.sum = entries, sha256.Sum256(c.data)
	l.seen, l.failures = 0, 0
	return l.newsLocked(warnings), nil
}

// keptEntries returns the entries of old whose keys stand in bad lines only.
func keptEntries(old, good []Entry, bad *ParseError) []Entry {
	var kept []Entry
	for _, e := range old {
		same := func(g Entry) bool { return Equal(g.Key, e.Key) }
		if !slices.ContainsFunc(good, same) && bad.mentions(e.Key) {
			kept = append(kept, e)
		}
	}
	return kept
}

// newsLocked returns warnings, or none of them if they are those of last time.
func (l *grantedList) newsLocked(warnings []error) []error {
	text := ""
	if len(warnings) > 0 {
		text = errors.Join(warnings...).Error()
	}
	if text == l.warned {
		return nil
	}
	l.warned = text
	return warnings
}

// publishLocked composes the current list anew and returns role conflicts in it
// that were not told before.
func (a *Allowlist) publishLocked() (warnings []error) {
	var all []Entry
	for _, l := range a.lists {
		if !l.loaded {
			return nil // the first Load failed: nobody is admitted by half of what was asked for
		}
		all = append(all, l.entries...)
	}
	list := NewList(all...)
	conflicts := map[string]bool{}
	for _, err := range list.roleConflicts() {
		if !a.conflicts[err.Error()] {
			warnings = append(warnings, err)
		}
		conflicts[err.Error()] = true
	}
	a.conflicts = conflicts
	same := func(x, y Entry) bool { return x.Where() == y.Where() && x.String() == y.String() }
	if !slices.EqualFunc(a.current.Load().entries, list.entries, same) {
		a.current.Store(list)
		a.notify()
	}
	return warnings
}

func (a *Allowlist) notify() {
	select {
	case a.changes <- struct{}{}:
	default: // the receiver has yet to see the last one and will see this with it
	}
}

func (a *Allowlist) tell(warnings []error) {
	for _, err := range warnings {
		a.warn(err)
	}
}
