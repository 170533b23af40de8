package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/term"
)

// keys examines the SSH keys of the person at this machine, and their agent.
func (d *doctor) keys(ctx context.Context) []finding {
	var skipped []error
	ids, err := keys.Identities(ctx, keys.IdentityOptions{
		File:   d.opts.identity,
		Prompt: askPassphrase,
		Warn:   func(err error) { skipped = append(skipped, err) },
	})
	var none *keys.NoIdentityError
	if errors.As(err, &none) {
		skipped = none.Skipped
	}
	var out []finding
	for _, err := range skipped {
		out = append(out, finding{Check: "keys", Verdict: verdictWarning, Text: keys.Printable(err.Error()), Hint: firstHint(err)})
	}
	if err != nil {
		f := finding{Check: "keys", Verdict: verdictProblem, Text: keys.Printable(err.Error()), Hint: firstHint(err)}
		if none != nil {
			f.Text = "you have no SSH key, and can join nobody"
		}
		return append(out, f)
	}
	f := finding{Check: "keys", Text: plural(len(ids), "key")}
	var prints []string
	for _, id := range ids {
		prints = append(prints, keys.Fingerprint(id.Public()))
	}
	f.Facts = map[string]any{"fingerprints": prints}
	switch id, err := hostIdentity(ctx, d.opts.identity, ids); {
	case err != nil:
		f.Verdict, f.Hint = verdictNote, "add it to an agent, to be asked once: ssh-add"
		f.Text += "; it asks for its passphrase or a touch each time"
	case id == nil:
		f.Verdict, f.Hint = verdictNote, "add one to an agent: ssh-add"
		f.Text += "; none can sign unasked, so as a host you prove none to your guests"
	default:
		f.Text += "; as a host you prove " + keys.Describe(id.Public(), id.Comment())
	}
	out = append(out, f)

	held := 0
	for _, id := range ids {
		if id.Source() == "agent" {
			held++
		}
	}
	agent := finding{Check: "agent", Text: "ssh-agent answers and holds " + plural(held, "key"), Facts: map[string]any{"keys": held}}
	switch {
	case held > 0:
	case d.opts.identity != "":
		return out // it was not asked for
	case os.Getenv("SSH_AUTH_SOCK") == "":
		agent.Verdict, agent.Text = verdictNote, "no ssh-agent runs here; only keys with a passphrase would need it"
	default:
		agent.Verdict, agent.Text = verdictNote, "ssh-agent holds no key that can be used"
		agent.Hint = "add one: ssh-add"
	}
	return append(out, agent)
}

// firstHint is the first thing to do about err, empty if nothing is known.
func firstHint(err error) string {
	if hs := hints(err); len(hs) > 0 {
		return hs[0]
	}
	return ""
}

// allowed examines the lists of who may join.
func (d *doctor) allowed(ctx context.Context) []finding {
	grants, where, err := d.grants()
	if err != nil {
		return []finding{{Check: "allowed", Verdict: verdictProblem, Text: keys.Printable(err.Error()), Hint: "see: pairterm host --help"}}
	}
	if len(grants) == 0 {
		return []finding{{Check: "allowed", Verdict: verdictNote, Text: "no list: only holders of your own keys may join, that is you",
			Hint: "let alice in: pairterm host --allow alice.pub"}}
	}
	var warned []error
	list, err := loadList(ctx, "host refuses this list", keys.AllowlistOptions{
		Grants:    grants,
		Warn:      func(err error) { warned = append(warned, err) },
		GitHubURL: d.opts.githubURL,
		GitLabURL: d.opts.gitlabURL,
	})
	var out []finding
	for _, err := range warned {
		out = append(out, finding{Check: "allowed", Verdict: verdictWarning, Text: keys.Printable(err.Error())})
	}
	if err != nil {
		return append(out, finding{Check: "allowed", Verdict: verdictProblem, Text: keys.Printable(err.Error()), Hint: firstHint(err)})
	}
	var (
		typing, viewing, expired int
		now                      = time.Now()
	)
	for _, e := range list.Current().Entries() {
		switch {
		case !e.ExpiresAt.IsZero() && !now.Before(e.ExpiresAt):
			expired++
		case e.Role == keys.RoleType:
			typing++
		default:
			viewing++
		}
	}
	f := finding{Check: "allowed", Facts: map[string]any{"type": typing, "view": viewing, "expired": expired}}
	f.Text = fmt.Sprintf("%s may join to type, %d to view: %s", plural(typing, "key"), viewing, where)
	switch {
	case typing+viewing == 0:
		f.Verdict, f.Text, f.Hint = verdictWarning, "nobody may join: "+where, "add a key: pairterm host --allow alice.pub"
	case expired > 0:
		f.Verdict, f.Text = verdictNote, f.Text+fmt.Sprintf("; %d more expired", expired)
	}
	return append(out, f)
}

// grants are the lists that a host would use, and where they are from.
func (d *doctor) grants() (grants []keys.Grant, where string, err error) {
	if grants, err = parseGrants("allow", d.opts.allow, keys.RoleType); err != nil {
		return nil, "", err
	}
	view, err := parseGrants("view", d.opts.view, keys.RoleView)
	if err != nil {
		return nil, "", err
	}
	grants = append(grants, view...)
	if len(grants) == 0 {
		if grants, err = keys.DefaultGrants(); err != nil {
			return nil, "", err
		}
	}
	var names []string
	for _, g := range grants {
		names = append(names, keys.Printable(g.Source.String()))
	}
	return grants, strings.Join(names, ", "), nil
}

// The size below which a terminal is cramped: that of a VT100, for which programs are
// made.
const cosyCols, cosyRows = 80, 24

// terminal examines the terminal.
func (d *doctor) terminal(context.Context) []finding {
	var out []finding
	if id := os.Getenv(envSession); id != "" {
		out = append(out, finding{Check: "terminal", Verdict: verdictNote, Text: fmt.Sprintf("this shell is shared already, as session %s", keys.Printable(id))})
	}
	name := os.Getenv("TERM")
	f := finding{Check: "terminal", Facts: map[string]any{"TERM": name}}
	parts := []string{keys.Printable(name)}
	if name == "" {
		parts[0] = "TERM is not set"
	}
	tty, err := term.OpenTTY(d.std.In, d.std.Out)
	if err != nil && !d.opts.json {
		parts = append(parts, "not at a terminal, so not all could be looked at")
		f.Verdict, f.Hint = verdictNote, "to share without one: pairterm host --headless"
	}
	if err == nil {
		defer tty.Close()
		if size, err := tty.Size(); err == nil {
			parts = append(parts, fmt.Sprintf("%d by %d", size.Cols, size.Rows))
			f.Facts["cols"], f.Facts["rows"] = size.Cols, size.Rows
			if size.Cols < cosyCols || size.Rows < cosyRows {
				f.Verdict, f.Hint = verdictNote, "guests see this size too; a larger window is more pleasant"
			}
		}
	}
	n := colours(name)
	switch n {
	case 0:
		parts = append(parts, "no colours")
	case trueColour:
		parts = append(parts, "true colour")
	default:
		parts = append(parts, fmt.Sprintf("%d colours", n))
	}
	f.Facts["colours"] = n
	utf8, locale := localeUTF8()
	f.Facts["utf8"] = utf8
	if utf8 {
		parts = append(parts, "UTF-8")
	} else {
		parts = append(parts, locale)
		f.Verdict, f.Hint = verdictWarning, "choose a UTF-8 locale, for example: export LANG=C.UTF-8"
	}
	if name == "" || name == "dumb" {
		f.Verdict, f.Hint = verdictWarning, "set TERM to what your terminal is, for example: export TERM=xterm-256color"
	}
	f.Text = strings.Join(parts, ", ")
	return append(out, f)
}

// trueColour is how many colours there are in all.
const trueColour = 1 << 24

// colours is how many colours programs will use.
func colours(name string) int {
	switch {
	case os.Getenv("COLORTERM") == "truecolor" || os.Getenv("COLORTERM") == "24bit":
		return trueColour
	case strings.Contains(name, "256color") || slices.Contains([]string{"xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm"}, name):
		return 256
	case name == "" || name == "dumb" || strings.HasPrefix(name, "vt"):
		return 0
	}
	return 8
}

// localeUTF8 reports whether programs will write UTF-8, as setlocale(3) goes about it, and
// if not, what the locale is.
func localeUTF8() (bool, string) {
	if runtime.GOOS == "windows" {
		return true, "" // consoles speak it whatever is set
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		v := os.Getenv(name)
		if v == "" {
			continue
		}
		u := strings.ToUpper(v)
		return strings.Contains(u, "UTF-8") || strings.Contains(u, "UTF8"), fmt.Sprintf("not UTF-8 but %s=%s", name, keys.Printable(v))
	}
	// Without any the locale is POSIX; macOS speaks UTF-8 all the same.
	return runtime.GOOS == "darwin", "no locale is set"
}
