package kafkax

const (
	sourceDefault = "default"
	setInCode     = "set in code" // a field that was changed after resolving
)

// Setting is one line of an [Explanation].
type Setting struct {
	Key    string // as in the YAML: "consumer.session_timeout"
	Value  string // what is in effect; secrets masked
	Source string // "default", "file:line", "env KAFKAX_X", "option WithX", "protobuf" or "set in code"
}

// setting is one value as a layer gave it. All layers speak text, so that
// parsing and bounds are in one place: the table of keys.
type setting struct {
	text   string
	source string // "default", "file:line", "env KAFKAX_X", "option WithX" or "protobuf"
	broken string // the rule it broke before it could be spelled as text, or ""
}

// layer is what one source gives, by key.
type layer map[string]setting

// sources is what a config remembers of how it was resolved.
type sources struct {
	settings layer             // what the winning layer gave, but of secrets only where from
	resolved map[string]string // what the field held then (see configKey.kept), to see later changes
	injected []Setting         // values that only code can give
}
