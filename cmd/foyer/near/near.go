// Package near finds the name that a mistyped one most likely means, and asks for it.
package near

import "strings"

// Name is the known name that is meant by name; "": none is near.
func Name(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		d := distance(name, k)
		if words := strings.ReplaceAll("_"+k+"_", "-", "_"); strings.Contains(words, "_"+strings.ReplaceAll(name, "-", "_")+"_") {
			d = min(d, 2) // a word of it was left out
		}
		if d < least {
			best, least = k, d
		}
	}
	return best
}

// Question asks, behind what is said of a wrong name, whether another one is meant; "" if that is "".
func Question(meant string) string {
	if meant == "" {
		return ""
	}
	return "; do you mean " + meant + "?"
}

// distance is how many letters are to be put in, left out or exchanged to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
