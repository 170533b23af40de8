package link

import (
	"fmt"
	"testing"
)

func TestPredictions(t *testing.T) {
	for _, tc := range []struct {
		now   string
		delta int
		want  string
	}{
		{"203.0.113.1:50000", 1, "[50001 49999 50002 49998 50003 49997 50004 49996 50005 49995 50006 49994]"},
		{"203.0.113.1:50000", -2, "[49998 50002 49996 50004 49994 50006 49992 50008 49990 50010 49988 50012]"},
		{"203.0.113.1:65530", 4, "[65534 65526 65522 65518 65514 65510 65506 65502 65498 65494 65490 65486]"},
		{"203.0.113.1:1030", 8, "[1038 1046 1054 1062 1070 1078 1086 1094 1102 1110 1118 1126]"},
	} {
		var got []uint16
		for _, a := range predictions(a4(tc.now), tc.delta) {
			got = append(got, a.Port())
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s in steps of %d: %v", tc.now, tc.delta, got)
		}
	}
}
