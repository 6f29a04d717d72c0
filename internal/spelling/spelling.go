// Package spelling tells how near two names are, to suggest the one that was meant.
package spelling

// longest is the length of words that are worth comparing: longer than any name.
const longest = 64

// Distance counts the insertions, deletions and substitutions between a and b
// (Levenshtein), by bytes: names are ASCII. Of words longer than 64 bytes it is
// 64.
func Distance(a, b string) int {
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
