package kafkax

// Unmark and IsRefused give the outside tests the two classifiers that only
// the loops use.
var (
	Unmark    = unmark
	IsRefused = isRefused
)
