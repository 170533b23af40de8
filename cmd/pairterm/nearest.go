package main

// nearest returns the word that text was most likely meant to be, empty if it is like
// none of them: letters that are missing, too many, wrong or swapped, one for every
// three that are right.
func nearest(text string, words []string) string {
	best, least := "", max(1, len(text)/4)+1
	for _, w := range words {
		if d := distance(text, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, replaced, or swapped with
// their neighbour to make b of a: the optimal string alignment distance.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
