package kafkax

import "slices"

// nearest finds the known name with the fewest letters to change.
func nearest(name string, known []string) string {
	const most = 100 // the longest known name has 44
	name = name[:min(len(name), most)]
	return slices.MinFunc(slices.Sorted(slices.Values(known)), func(a, b string) int {
		return editDistance(name, a) - editDistance(name, b)
	})
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
