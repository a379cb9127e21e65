package kafkax

// Unmark and IsRefused give the outside tests the two classifiers that only
// the loops use, ErrGoexit an error that none returns as it is, and Meaningful what a dead letter names the type of.
var (
	Unmark     = unmark
	IsRefused  = isRefused
	ErrGoexit  = errGoexit
	Meaningful = meaningful
)
