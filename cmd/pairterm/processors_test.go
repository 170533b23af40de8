package main

import (
	"runtime"
	"testing"
)

func TestProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	t.Setenv("GOMAXPROCS", "")
	p := oneProcessor()
	for _, step := range []struct{ guests, want int }{{0, 1}, {7, 1}, {8, 2}, {28, 3}, {8, 2}, {7, 1}, {0, 1}} {
		p.serve(step.guests)
		if got := runtime.GOMAXPROCS(0); got != step.want {
			t.Errorf("%d guests: %d processors, want %d", step.guests, got, step.want)
		}
	}

	runtime.GOMAXPROCS(2)
	t.Setenv("GOMAXPROCS", "2")
	oneProcessor().serve(30)
	if got := runtime.GOMAXPROCS(0); got != 2 {
		t.Errorf("with GOMAXPROCS=2 set: %d processors", got)
	}
}
