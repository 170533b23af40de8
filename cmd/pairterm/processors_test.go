package main

import (
	"runtime"
	"testing"
)

func TestProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	t.Setenv("GOMAXPROCS", "")
	p := oneProcessor()
	for _, step := range []struct{ more, want int }{{0, 1}, {7, 1}, {1, 2}, {20, 3}, {-20, 2}, {-1, 1}, {-7, 1}} {
		p.serve(step.more)
		if got := runtime.GOMAXPROCS(0); got != step.want {
			t.Errorf("after %+d guests: %d processors, want %d", step.more, got, step.want)
		}
	}

	runtime.GOMAXPROCS(2)
	t.Setenv("GOMAXPROCS", "2")
	oneProcessor().serve(30)
	if got := runtime.GOMAXPROCS(0); got != 2 {
		t.Errorf("with GOMAXPROCS=2 set: %d processors", got)
	}
}
