package kafkax

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// kafkaNames is what the Java client and librdkafka, or the flags of Kafka's
// tools, call what the keys set, and what no key sets. The comments of the options
// name the first of a key.
var kafkaNames = map[string][]string{
	"bootstrap.servers":                     {"brokers"},
	"metadata.broker.list":                  {"brokers"},
	"bootstrap.server":                      {"brokers"},
	"broker.list":                           {"brokers"},
	"client.id":                             {"client_id"},
	"socket.connection.setup.timeout.ms":    {"dial_timeout"},
	"request.timeout.ms":                    {"request_timeout"},
	"socket.timeout.ms":                     {"request_timeout"},
	"sasl.mechanism":                        {"sasl.mechanism"},
	"sasl.mechanisms":                       {"sasl.mechanism"},
	"sasl.jaas.config":                      {"sasl.username", "sasl.password"},
	"security.protocol":                     {"tls.enabled", "sasl.mechanism"},
	"ssl.truststore.location":               {"tls.ca_file"},
	"ssl.ca.location":                       {"tls.ca_file"},
	"ssl.truststore.certificates":           {"tls.ca_file"},
	"ssl.ca.pem":                            {"tls.ca_file"},
	"ssl.keystore.location":                 {"tls.cert_file"},
	"ssl.certificate.location":              {"tls.cert_file"},
	"ssl.keystore.certificate.chain":        {"tls.cert_file"},
	"ssl.certificate.pem":                   {"tls.cert_file"},
	"ssl.keystore.key":                      {"tls.key_file"},
	"ssl.key.pem":                           {"tls.key_file"},
	"ssl.key.location":                      {"tls.key_file"},
	"ssl.endpoint.identification.algorithm": {"tls.insecure_skip_verify"},
	"enable.ssl.certificate.verification":   {"tls.insecure_skip_verify"},

	"batch.num.messages":                 {"producer.batch_size"},
	"max.request.size":                   {"producer.batch_bytes"},
	"batch.size":                         {"producer.batch_bytes"},
	"message.max.bytes":                  {"producer.batch_bytes"},
	"linger.ms":                          {"producer.batch_timeout"},
	"queue.buffering.max.ms":             {"producer.batch_timeout"},
	"acks":                               {"producer.required_acks"},
	"request.required.acks":              {"producer.required_acks"},
	"retries":                            {"producer.max_attempts"},
	"message.send.max.retries":           {"producer.max_attempts"},
	"enable.idempotence":                 {"producer.idempotent"},
	"delivery.timeout.ms":                {"producer.delivery_timeout"},
	"message.timeout.ms":                 {"producer.delivery_timeout"},
	"compression.type":                   {"producer.compression"},
	"compression.codec":                  {"producer.compression"},
	"partitioner.class":                  {"producer.balancer"},
	"partitioner":                        {"producer.balancer"},
	"group.id":                           {"consumer.group_id"},
	"fetch.min.bytes":                    {"consumer.min_bytes"},
	"fetch.max.bytes":                    {"consumer.max_bytes"},
	"max.partition.fetch.bytes":          {"consumer.max_bytes"},
	"fetch.max.wait.ms":                  {"consumer.max_wait"},
	"fetch.wait.max.ms":                  {"consumer.max_wait"},
	"auto.offset.reset":                  {"consumer.start_offset", "consumer.offset_reset"},
	"isolation.level":                    {"consumer.isolation_level"},
	"auto.commit.interval.ms":            {"consumer.commit_interval"},
	"heartbeat.interval.ms":              {"consumer.heartbeat_interval"},
	"session.timeout.ms":                 {"consumer.session_timeout"},
	"max.poll.interval.ms":               {"consumer.rebalance_timeout"},
	"offsets.retention.minutes":          {"consumer.retention_time"},
	"metadata.max.age.ms":                {"consumer.partition_watch_interval"},
	"topic.metadata.refresh.interval.ms": {"consumer.partition_watch_interval"},
	"retry.backoff.ms":                   {"consumer.retry.initial_backoff"},
	"retry.backoff.max.ms":               {"consumer.retry.max_backoff"},
	"max.poll.records":                   {"consumer.batch_size"},

	"allow.auto.create.topics":              nil,
	"api.version.request":                   nil,
	"buffer.memory":                         nil,
	"check.crcs":                            nil,
	"client.dns.lookup":                     nil,
	"client.rack":                           nil,
	"compression.level":                     nil,
	"connections.max.idle.ms":               nil,
	"default.api.timeout.ms":                nil,
	"enable.auto.commit":                    nil,
	"enable.auto.offset.store":              nil,
	"exclude.internal.topics":               nil,
	"group.instance.id":                     nil,
	"group.protocol":                        nil,
	"group.remote.assignor":                 nil,
	"interceptor.classes":                   nil,
	"key.deserializer":                      nil,
	"key.serializer":                        nil,
	"max.block.ms":                          nil,
	"max.in.flight":                         nil,
	"max.in.flight.requests.per.connection": nil,
	"metric.reporters":                      nil,
	"partition.assignment.strategy":         nil,
	"queue.buffering.max.kbytes":            nil,
	"queue.buffering.max.messages":          nil,
	"receive.buffer.bytes":                  nil,
	"reconnect.backoff.max.ms":              nil,
	"reconnect.backoff.ms":                  nil,
	"sasl.kerberos.service.name":            nil,
	"sasl.login.callback.handler.class":     nil,
	"sasl.oauthbearer.token.endpoint.url":   nil,
	"send.buffer.bytes":                     nil,
	"ssl.cipher.suites":                     nil,
	"ssl.enabled.protocols":                 nil,
	"ssl.key.password":                      nil,
	"ssl.keystore.password":                 nil,
	"ssl.keystore.type":                     nil,
	"ssl.protocol":                          nil,
	"ssl.truststore.password":               nil,
	"ssl.truststore.type":                   nil,
	"statistics.interval.ms":                nil,
	"transaction.timeout.ms":                nil,
	"transactional.id":                      nil,
	"value.deserializer":                    nil,
	"value.serializer":                      nil,
}

// kafkaSpelled finds the names of Kafka where "." was written as "_".
var kafkaSpelled = sync.OnceValue(func() map[string]string {
	spelled := make(map[string]string, len(kafkaNames))
	for name := range kafkaNames {
		spelled[spelling(name)] = name
	}
	return spelled
})

// suggestion is which keys an unknown name was probably meant for.
type suggestion struct {
	keys  []string // several if the name fits them alike; none if Kafka's name has no key
	kafka string   // the name that Kafka has for them, if it is one
	near  bool     // so near that it can hardly be by chance
}

func (s suggestion) String() string {
	list := strings.Join(s.keys, " and ")
	switch {
	case s.kafka != "" && len(s.keys) == 0:
		return "Kafka's " + s.kafka + " has no key here"
	case s.kafka != "":
		return "Kafka's " + s.kafka + " is " + list + " here"
	case len(s.keys) > 1:
		return "the nearest are " + list
	default:
		return "the nearest is " + list
	}
}

// suggest finds the keys among known that an unknown name is nearest to: by its
// letters, where the first elements of a key's path may be missing, or because
// Kafka calls them so.
func suggest(name string, known []string) suggestion {
	const most = 100 // the longest known name has 44
	name = cutText(name, most)
	if s, ok := kafkaSuggestion(strings.ToLower(name)); ok {
		return s
	}
	spelled := spelling(name)
	var s suggestion
	best, fits := math.MaxInt, false
	for _, key := range slices.Sorted(slices.Values(known)) {
		switch d, exact := pathDistance(spelled, key); {
		case d < best, d == best && exact && !fits:
			best, fits, s.keys = d, exact, []string{key}
		case d == best && exact:
			s.keys = append(s.keys, key)
		}
	}
	if !fits {
		if s, ok := kafkaSuggestion(nearestOfKafkas(sideless(spelled, "_"), best)); ok {
			return s
		}
	}
	s.near = fits || best <= len(spelled)/3
	return s
}

// nearestOfKafkas is the name of Kafka that a spelled one is nearer to than to a
// key, if no more than one letter in five differs.
func nearestOfKafkas(spelled string, key int) string {
	best, nearest := min(key, len(spelled)/5+1), ""
	for _, candidate := range slices.Sorted(maps.Keys(kafkaSpelled())) {
		if d := editDistance(spelled, candidate); d < best {
			best, nearest = d, kafkaSpelled()[candidate]
		}
	}
	return nearest
}

func kafkaSuggestion(name string) (suggestion, bool) {
	name = sideless(name, ".")
	keys, ok := kafkaNames[name]
	return suggestion{keys: keys, kafka: name, near: true}, ok
}

func sideless(name, separator string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "producer"+separator), "consumer"+separator)
}

// pathDistance is how many letters of a spelled name differ from a key, or from
// the end of its path. Each element that is missing counts as a letter. It is
// exact if no letter differs.
func pathDistance(spelled, key string) (distance int, exact bool) {
	distance = math.MaxInt
	path := strings.Split(key, ".")
	for missing := range path {
		letters := editDistance(spelled, spelling(strings.Join(path[missing:], ".")))
		distance = min(distance, letters+missing)
		exact = exact || letters == 0
	}
	return distance, exact
}

// spelling is a name without what differs between layers and habits: the
// separator, and capitals, be they for all letters or for the first of a word.
func spelling(name string) string {
	var b strings.Builder
	inWord := false
	for _, r := range name {
		if inWord && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		inWord = unicode.IsLower(r)
		if r == '.' || r == '-' {
			r = '_'
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
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
