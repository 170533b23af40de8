//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// echoes is what came of typing.
type echoes struct {
	name    string
	times   []time.Duration // per key; 0 for none
	missing int
	wrong   bool // keys were repeated, or came in another order
	err     error
}

// typing types n keys, 100 to 150 ms apart unless gap is given, and watches the
// screen for them: all of the text so far must be on it, for a key to be there.
func typing(g *terminal, n int, gap time.Duration) (e echoes) {
	typed := make([]time.Time, n)
	e.times = make([]time.Duration, n)
	shown := 0
	g.mu.Lock()
	g.onOutput = func(at time.Time) {
		s := g.screen.Snapshot()
		top := 0
		for top < lines && rowText(s, top) != ready {
			top++
		}
		for top++; shown < n && !typed[shown].IsZero(); shown++ {
			y := top + shown/cols
			if y >= lines || string(s.AppendText(nil, s.Cell(shown%cols, y))) != alphabet[shown%len(alphabet):][:1] {
				break
			}
			e.times[shown] = at.Sub(typed[shown])
		}
	}
	g.mu.Unlock()
	for i := range n {
		g.mu.Lock()
		typed[i] = time.Now()
		g.mu.Unlock()
		g.f.WriteString(alphabet[i%len(alphabet):][:1])
		if gap > 0 {
			time.Sleep(gap)
		} else {
			time.Sleep(time.Duration(100+(i*37)%51) * time.Millisecond)
		}
	}
	_, e.err = g.until(30*time.Second, func() bool { return shown == n })
	time.Sleep(time.Second) // for what comes twice
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onOutput = nil
	e.missing = n - shown
	s := g.screen.Snapshot()
	var text []byte
	seen := false
	for y := range lines {
		row := rowText(s, y)
		if seen {
			text = append(text, row...)
		}
		seen = seen || row == ready
	}
	want := strings.Repeat(alphabet, n/len(alphabet)+1)[:n]
	e.wrong = shown == n && string(text) != want
	if errors.Is(e.err, errLate) {
		e.err = nil // it is told as missing
	}
	return e
}

func (e echoes) String() string {
	if e.err != nil {
		return fmt.Sprintf("  %-10s %v", e.name, e.err)
	}
	t := slices.DeleteFunc(slices.Clone(e.times), func(d time.Duration) bool { return d == 0 })
	if len(t) == 0 {
		return fmt.Sprintf("  %-10s nothing came", e.name)
	}
	s := fmt.Sprintf("  %-10s %s", e.name, figures(t))
	for i, d := range e.times {
		if d == t[len(t)-1] && d > time.Second {
			s += fmt.Sprintf(", worst is key %d", i)
		}
	}
	if e.missing > 0 {
		s += fmt.Sprintf(", %d of %d keys missing", e.missing, len(e.times))
	}
	if e.wrong {
		s += ", THE SCREEN IS WRONG"
	}
	return s
}

// figures sorts the times.
func figures(t []time.Duration) string {
	slices.Sort(t)
	var sum time.Duration
	for _, d := range t {
		sum += d
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("mean %.1f  p50 %.1f  p99 %.1f  worst %.1f ms  (%d)",
		ms(sum/time.Duration(len(t))), ms(t[len(t)/2]), ms(t[len(t)*99/100]), ms(t[len(t)-1]), len(t))
}

// echo meets on a good link, makes it what it is to be, and types, everybody at
// the same time.
func (l *lab) echo(c condition, addr string, names []string, n int, gap time.Duration) ([]echoes, error) {
	if err := l.set(plain); err != nil {
		return nil, err
	}
	out := make([]echoes, len(names))
	guests := make([]*terminal, len(names))
	for i, name := range names {
		out[i].name = name
		s, g, err := l.pair(name, "echo.sh", addr)
		if err != nil {
			out[i].err = err
			continue
		}
		defer s.end()
		defer g.end()
		guests[i] = g
	}
	if err := l.set(c); err != nil {
		return nil, err
	}
	time.Sleep(6 * time.Second) // for notices to go from the guests' screens
	var all sync.WaitGroup
	for i, g := range guests {
		if g == nil {
			continue
		}
		all.Go(func() {
			time.Sleep(time.Duration(i) * 17 * time.Millisecond)
			e := typing(g, n, gap)
			e.name = names[i]
			out[i] = e
		})
	}
	all.Wait()
	err := l.set(plain)
	time.Sleep(500 * time.Millisecond)
	return out, err
}

func (l *lab) rowLoss() error {
	names := slices.Repeat(l.chosen("pairterm"), *runs)
	names = append(names, l.chosen("ssh+tmux", "mosh", "mosh+tmux")...)
	out, err := l.echo(lossy, addrB, names, *keyN, 0)
	for _, e := range out {
		fmt.Println(e)
	}
	return err
}

func (l *lab) rowClean() error {
	out, err := l.echo(far, addrB, l.chosen("pairterm", "ssh", "ssh+tmux", "mosh", "mosh+tmux"), min(*keyN, 200), 0)
	for _, e := range out {
		fmt.Println(e)
	}
	return err
}

// rowLoopback types at one after the other, so that they do not disturb each
// other, and twice, to see by how much the machine does.
func (l *lab) rowLoopback() error {
	for range 2 {
		for _, name := range l.chosen("pairterm", "ssh", "ssh+tmux", "mosh") {
			out, err := l.echo(plain, "127.0.0.1", []string{name}, min(2**keyN, 1000), 11*time.Millisecond)
			if err != nil {
				return err
			}
			fmt.Println(out[0])
		}
	}
	return nil
}

func (l *lab) rowTrain() error {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(27 * time.Second):
				_ = l.outage(railway, 3*time.Second)
			case <-stop:
				return
			}
		}
	}()
	out, err := l.echo(railway, addrB, l.chosen("pairterm", "ssh+tmux", "mosh"), max(*keyN, 900), 0)
	close(stop)
	<-stopped
	for _, e := range out {
		fmt.Println(e)
		over := func(limit time.Duration) (n int) {
			for _, d := range e.times {
				if d > limit {
					n++
				}
			}
			return n
		}
		fmt.Printf("  %-10s keys later than 1 s: %d, than 3.5 s: %d, than 5 s: %d\n", "", over(time.Second), over(3500*time.Millisecond), over(5*time.Second))
	}
	return errors.Join(err, l.set(plain))
}

func (l *lab) rowJoin() error {
	if err := l.set(plain); err != nil {
		return err
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	bad := make(chan struct{}) // closed when the link is
	for _, name := range l.chosen("pairterm", "ssh+tmux", "mosh+tmux") {
		s, err := l.share(name, "echo.sh", addrB)
		if err != nil {
			return err
		}
		defer s.end()
		all.Go(func() {
			var times []time.Duration
			failed := 0
			<-bad
			for range *joins {
				begin := time.Now()
				g, err := s.meet(60 * time.Second)
				if err != nil {
					failed++
				} else {
					times = append(times, time.Since(begin))
					g.end()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("  %-10s", name)
			slices.Sort(times)
			for _, d := range times {
				fmt.Printf(" %.1f", d.Seconds())
			}
			if n := len(times); n > 0 {
				fmt.Printf(" s, median %.1f s", ((times[(n-1)/2] + times[n/2]) / 2).Seconds())
			}
			fmt.Printf(", %d failed\n", failed)
		})
	}
	err := l.set(lossy)
	close(bad)
	if err != nil {
		return err
	}
	all.Wait()
	return l.set(plain)
}

func (l *lab) rowFlood() error {
	for _, name := range l.chosen("pairterm", "ssh", "ssh+tmux", "mosh", "mosh+tmux") {
		times, err := l.flood(name)
		switch {
		case len(times) > 0:
			fmt.Printf("  %-10s %s\n", name, figures(times))
		case err != nil:
			fmt.Printf("  %-10s %v\n", name, err)
		}
	}
	return nil
}

func (l *lab) flood(name string) (times []time.Duration, err error) {
	if err := l.set(plain); err != nil {
		return nil, err
	}
	s, g, err := l.pair(name, "shell.sh", addrB)
	if err != nil {
		return nil, err
	}
	defer s.end()
	defer g.end()
	if err := l.set(narrow); err != nil {
		return nil, err
	}
	rounds := 8
	if strings.HasPrefix(name, "ssh") {
		rounds = 3
	}
	for range rounds {
		if _, err := g.until(20*time.Second, g.atPrompt); err != nil {
			return times, err
		}
		g.f.WriteString("yes\r")
		if _, err := g.until(10*time.Second, func() bool { return g.shows("y") && !g.shows(prompt) }); err != nil {
			return times, err
		}
		time.Sleep(4 * time.Second)
		begin := time.Now()
		g.f.WriteString("\x03")
		at, err := g.until(40*time.Second, g.atPrompt)
		if err != nil {
			return times, err
		}
		times = append(times, at.Sub(begin))
	}
	return times, nil
}

func (l *lab) rowBulk() error {
	for _, name := range l.chosen("pairterm", "ssh+tmux", "mosh+tmux") {
		if err := l.set(plain); err != nil {
			return err
		}
		s, g, err := l.pair(name, "bulk.sh", addrB)
		if err != nil {
			return err
		}
		if err := l.set(narrow); err != nil {
			return err
		}
		var lag, took []time.Duration
		for range 4 {
			s.host.mu.Lock()
			s.host.tail = nil
			s.host.mu.Unlock()
			begin := time.Now()
			g.f.WriteString("\r")
			time.Sleep(200 * time.Millisecond)
			ended, err := s.host.until(60*time.Second, func() bool { return bytes.Contains(s.host.tail, []byte(theEnd)) })
			if err != nil {
				fmt.Printf("  %-10s at the host: %v\n", name, err)
				break
			}
			// Until there is no line of the file under it, the end that is shown is the last one's.
			at, err := g.until(60*time.Second, func() bool { return g.at.After(begin.Add(250*time.Millisecond)) && g.endsWith(theEnd) })
			if err != nil {
				fmt.Printf("  %-10s at the guest: %v\n", name, err)
				break
			}
			lag, took = append(lag, at.Sub(ended)), append(took, ended.Sub(begin))
			time.Sleep(2 * time.Second)
		}
		if len(lag) > 0 {
			fmt.Printf("  %-10s lag %s\n  %-10s host %s\n", name, figures(lag), "", figures(took))
		}
		g.end()
		s.end()
	}
	return nil
}

// endsWith reports whether the line above the cursor is text.
func (t *terminal) endsWith(text string) bool {
	s := t.screen.Snapshot()
	y := s.Cursor().Y
	return y > 0 && rowText(s, y-1) == text
}

func (l *lab) rowIdle() error {
	const rest = 60 * time.Second
	if err := l.set(far); err != nil {
		return err
	}
	for _, name := range l.chosen("pairterm", "mosh") {
		s, g, err := l.pair(name, "echo.sh", addrB)
		if err != nil {
			return err
		}
		time.Sleep(10 * time.Second)
		in, out, err := packets()
		if err != nil {
			return err
		}
		pids := []int{g.pid()}
		if s.host != nil {
			pids = append(pids, s.host.pid())
		}
		cpu := make([]time.Duration, len(pids))
		for i, pid := range pids {
			cpu[i] = busy(pid)
		}
		time.Sleep(rest)
		in2, out2, err := packets()
		if err != nil {
			return err
		}
		fmt.Printf("  %-10s packets a second: %.2f to the guest, %.2f from it; CPU: guest %.3f %%", name,
			float64(in2-in)/rest.Seconds(), float64(out2-out)/rest.Seconds(), 100*(busy(pids[0])-cpu[0]).Seconds()/rest.Seconds())
		if len(pids) > 1 {
			fmt.Printf(", host %.3f %%", 100*(busy(pids[1])-cpu[1]).Seconds()/rest.Seconds())
		}
		fmt.Println()
		g.end()
		s.end()
	}
	return l.set(plain)
}

// packets counts those that came and left at the guests' end of the link.
func packets() (in, out int, err error) {
	text, err := exec.Command("ip", "netns", "exec", netnsA, "cat", "/proc/net/dev").Output()
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if f := strings.Fields(rest); ok && strings.TrimSpace(name) != "lo" && len(f) > 9 {
			i, _ := strconv.Atoi(f[1])
			o, _ := strconv.Atoi(f[9])
			in, out = in+i, out+o
		}
	}
	return in, out, nil
}

// busy is the time that a process has computed for, in nanoseconds where the
// scheduler tells, of all its threads.
func busy(pid int) (d time.Duration) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		if f := strings.Fields(string(text)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			d += time.Duration(ns)
		}
	}
	return d
}
