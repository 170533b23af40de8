package main

import (
	"os"
	"runtime"
	"sync"
)

// guestsPerProcessor is for how many guests a host takes another processor. A guest who
// is served frames of a flood takes a tenth of one.
const guestsPerProcessor = 8

// processors is how many of them this process computes on at once. A key or its echo goes
// through a dozen goroutines, one after the other; so does a piece of output. To hand
// either from core to core takes longer than most of what they do: on one there are half
// as many context switches, and a quarter less is computed. It is safe for concurrent use.
type processors struct {
	most int // what there are, 1 or more; 0: the user has decided

	mu  sync.Mutex
	now int
}

// oneProcessor begins with one, unless the user has decided by GOMAXPROCS.
func oneProcessor() *processors {
	if os.Getenv("GOMAXPROCS") != "" {
		return &processors{}
	}
	return &processors{most: runtime.GOMAXPROCS(1), now: 1}
}

// serve is told how many guests there are.
func (p *processors) serve(guests int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := min(1+guests/guestsPerProcessor, p.most); p.most != 0 && n != p.now {
		p.now = n
		runtime.GOMAXPROCS(n)
	}
}
