package kafkax_test

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// contract is what users compile against: none of it may change its type, or
// go.
const contract = `
type Message = kafka.Message
type Header = kafka.Header
type Handler func(ctx context.Context, msg kafka.Message) error
type BatchHandler func(ctx context.Context, msgs []kafka.Message) error

func NewProducer(opts ...ProducerOption) (*Producer, error)
func MustNewProducer(opts ...ProducerOption) *Producer
func (p *Producer) WriteMessages(ctx context.Context, msgs ...kafka.Message) error
func (p *Producer) SendMessage(ctx context.Context, key, value []byte) error
func (p *Producer) SendToTopic(ctx context.Context, topic string, key, value []byte) error
func (p *Producer) SendJSON(ctx context.Context, key []byte, payload any) error
func (p *Producer) SendJSONToTopic(ctx context.Context, topic string, key []byte, payload any) error
func (p *Producer) SendMessageWithHeaders(ctx context.Context, key, value []byte, headers ...kafka.Header) error
func (p *Producer) SendToTopicWithHeaders(ctx context.Context, topic string, key, value []byte, headers ...kafka.Header) error
func (p *Producer) SetLogger(logger, errorLogger kafka.Logger)
func (p *Producer) Ping(ctx context.Context) error
func (p *Producer) Stats() kafka.WriterStats
func (p *Producer) Writer() *kafka.Writer
func (p *Producer) Config() ProducerConfig
func (p *Producer) Close() error
func (p *Producer) GracefulShutdown(ctx context.Context) error

func NewConsumer(opts ...ConsumerOption) (*Consumer, error)
func MustNewConsumer(opts ...ConsumerOption) *Consumer
func (c *Consumer) ReadMessage(ctx context.Context) (kafka.Message, error)
func (c *Consumer) FetchMessage(ctx context.Context) (kafka.Message, error)
func (c *Consumer) CommitMessages(ctx context.Context, msgs ...kafka.Message) error
func (c *Consumer) SetOffset(offset int64) error
func (c *Consumer) SetOffsetAt(ctx context.Context, t time.Time) error
func (c *Consumer) Consume(ctx context.Context, h Handler, opts ...ConsumeOption) error
func (c *Consumer) ConsumeWithManualCommit(ctx context.Context, h Handler, opts ...ConsumeOption) error
func (c *Consumer) ConsumeBatch(ctx context.Context, h BatchHandler, opts ...ConsumeOption) error
func (c *Consumer) SetLogger(logger, errorLogger kafka.Logger)
func (c *Consumer) Ping(ctx context.Context) error
func (c *Consumer) Lag() int64
func (c *Consumer) PartitionLag() map[int]int64
func (c *Consumer) Stats() kafka.ReaderStats
func (c *Consumer) Reader() *kafka.Reader
func (c *Consumer) Config() ConsumerConfig
func (c *Consumer) Close() error
func (c *Consumer) IsShutdown() bool
func (c *Consumer) GracefulShutdown(ctx context.Context) error
func (c *Consumer) RunWithGracefulShutdown(ctx context.Context, run func(context.Context) error) error

func NewMultiTopicConsumer(topics []string, opts ...ConsumerOption) (*MultiTopicConsumer, error)
func MustNewMultiTopicConsumer(topics []string, opts ...ConsumerOption) *MultiTopicConsumer
func (m *MultiTopicConsumer) Consume(ctx context.Context, handlers map[string]Handler, opts ...ConsumeOption) error
func (m *MultiTopicConsumer) ConsumeWithManualCommit(ctx context.Context, handlers map[string]Handler, opts ...ConsumeOption) error
func (m *MultiTopicConsumer) ConsumeBatch(ctx context.Context, handlers map[string]BatchHandler, opts ...ConsumeOption) error
func (m *MultiTopicConsumer) Consumer(topic string) *Consumer
func (m *MultiTopicConsumer) Stats() map[string]kafka.ReaderStats
func (m *MultiTopicConsumer) Lag() int64
func (m *MultiTopicConsumer) PartitionLag() map[string]map[int]int64
func (m *MultiTopicConsumer) Config() ConsumerConfig
func (m *MultiTopicConsumer) SetLogger(logger, errorLogger kafka.Logger)
func (m *MultiTopicConsumer) Ping(ctx context.Context) error
func (m *MultiTopicConsumer) Close() error
func (m *MultiTopicConsumer) IsShutdown() bool
func (m *MultiTopicConsumer) GracefulShutdown(ctx context.Context) error
func (m *MultiTopicConsumer) RunWithGracefulShutdown(ctx context.Context, run func(context.Context) error) error

func LoadProducerFromEnv() (ProducerConfig, error)
func LoadConsumerFromEnv() (ConsumerConfig, error)
func SetupProducer(cfg *kafkaxpb.ProducerConfig, opts ...ProducerOption) (*Producer, error)
func SetupConsumer(cfg *kafkaxpb.ConsumerConfig, opts ...ConsumerOption) (*Consumer, error)
func ProducerOptionsFromProto(cfg *kafkaxpb.ProducerConfig) []ProducerOption
func ConsumerOptionsFromProto(cfg *kafkaxpb.ConsumerConfig) []ConsumerOption
func (c ProducerConfig) Explain() Explanation
func (c ConsumerConfig) Explain() Explanation

func WithConsumerBrokers(brokers ...string) ConsumerOption
func WithProducerBrokers(brokers ...string) ProducerOption
func WithConsumerTopic(topic string) ConsumerOption
func WithConsumerGroupID(id string) ConsumerOption
func WithConsumerEnvPrefix(prefix string) ConsumerOption
func WithProducerEnvPrefix(prefix string) ProducerOption
func WithConsumerNoEnv() ConsumerOption
func WithProducerNoEnv() ProducerOption
func WithConsumerRequestTimeout(d time.Duration) ConsumerOption
func WithProducerRequestTimeout(d time.Duration) ProducerOption

func WithConsumerDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) ConsumerOption
func WithProducerDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) ProducerOption

func WithRetry(r RetryConfig) ConsumeOption
func WithDLQTopic(topic string) ConsumeOption
func WithDLQWriter(w DLQWriter) ConsumeOption
func WithOnError(f func(ctx context.Context, msg kafka.Message, err error)) ConsumeOption
func WithOnFailure(p FailurePolicy) ConsumeOption
func WithBatchSize(n int) ConsumeOption
func WithBatchTimeout(d time.Duration) ConsumeOption
func WithConcurrency(n int) ConsumeOption
func WithOrdering(o Ordering) ConsumeOption
func WithHandlerTimeout(d time.Duration) ConsumeOption

const FailStop FailurePolicy
const FailSkip FailurePolicy
const OrderPartition Ordering
const OrderKey Ordering
const Unordered Ordering

type DLQWriter interface {
	WriteMessages(context.Context, ...kafka.Message) error
}
type RetryConfig struct {
	MaxAttempts    int
	InitialBackoff time.Duration
	MaxBackoff     time.Duration
	Multiplier     float64
	Jitter         float64
}
func Permanent(err error) error
`

// comes is what the contract will hold: what is there belongs above.
const comes = `
func AttemptFromContext(ctx context.Context) int
func (c *Consumer) Pause(partitions ...int)
func (c *Consumer) Resume(partitions ...int)
func (c *Consumer) Skip(partition int, offset int64) error
func (c *Consumer) Status() ConsumerStatus
func (p *Producer) Status() ProducerStatus
func (m *MultiTopicConsumer) Pause(topic string, partitions ...int)
func (m *MultiTopicConsumer) Resume(topic string, partitions ...int)
func (m *MultiTopicConsumer) Skip(topic string, partition int, offset int64) error
func (m *MultiTopicConsumer) Status() map[string]ConsumerStatus
func WithConsumerHooks(hooks ...any) ConsumerOption
func WithProducerHooks(hooks ...any) ProducerOption
func HTTPHandler(clients ...Client) http.Handler
func SetLogLevel(level slog.Level)
type Client interface{}
type ConsumerStatus struct{}
type ProducerStatus struct{}
`

// TestContract holds every type of the contract to the letter.
func TestContract(t *testing.T) {
	t.Parallel()
	p := checkedPackage(t)
	terms := readContract(t, p.fset, contract)
	pkg := checkTerms(t, p, terms)
	for i, term := range terms {
		object := lookup(pkg, term.owner, term.name)
		if object == nil {
			t.Errorf("there is no %s", term)
			continue
		}
		got, want := object.Type(), pkg.Scope().Lookup(termName(i)).Type()
		if term.kind == token.TYPE && !term.alias {
			got = got.Underlying()
		}
		declared, _ := object.(*types.TypeName)
		switch {
		case term.alias && (declared == nil || !declared.IsAlias()):
			t.Errorf("%s is no alias", term)
		case !types.Identical(got, want):
			t.Errorf("%s is %s, want %s", term, got, want)
		}
	}
}

// TestContractNamesWhatIsThere fails once something is there that is only
// promised.
func TestContractNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	p := checkedPackage(t)
	for _, term := range readContract(t, p.fset, comes) {
		if lookup(p.types, term.owner, term.name) != nil {
			t.Errorf("%s is there: move its line up, with its type", term)
		}
	}
}

// TestMultiTopicConsumerHasWhatConsumerHas leaves out what is of one topic: the
// calls that pull, and positions.
func TestMultiTopicConsumerHasWhatConsumerHas(t *testing.T) {
	t.Parallel()
	of := map[string]bool{
		"ReadMessage": true, "FetchMessage": true, "CommitMessages": true, "SetOffset": true, "SetOffsetAt": true, "Reader": true,
	}
	p := checkedPackage(t)
	consumer := types.NewPointer(p.types.Scope().Lookup("Consumer").Type())
	for method := range types.NewMethodSet(consumer).Methods() {
		name := method.Obj().Name()
		if ast.IsExported(name) && !of[name] && lookup(p.types, "MultiTopicConsumer", name) == nil {
			t.Errorf("there is no MultiTopicConsumer.%s", name)
		}
	}
	for _, name := range []string{"NewMultiTopicConsumer", "MustNewMultiTopicConsumer"} {
		if p.types.Scope().Lookup(name) == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// term is one name of a contract.
type term struct {
	kind        token.Token
	owner, name string // owner is the type of a method
	alias       bool
	text        string // of its type, as Go
}

func (t term) String() string {
	if t.owner == "" {
		return t.name
	}
	return t.owner + "." + t.name
}

// readContract reads declarations: the syntax of Go, but that a constant has no
// value.
func readContract(t *testing.T, fset *token.FileSet, text string) []term {
	t.Helper()
	text = strings.ReplaceAll(text, "\nconst ", "\nvar ")
	file, err := parser.ParseFile(fset, "contract.go", "package kafkax\n"+text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	source := func(n ast.Node) string {
		var b strings.Builder
		if err := format.Node(&b, fset, n); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var terms []term
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			f := term{kind: token.FUNC, name: d.Name.Name, text: source(d.Type)}
			if d.Recv != nil {
				f.owner = strings.TrimPrefix(source(d.Recv.List[0].Type), "*")
			}
			terms = append(terms, f)
		case *ast.GenDecl:
			switch s := d.Specs[0].(type) {
			case *ast.TypeSpec:
				terms = append(terms, term{kind: token.TYPE, name: s.Name.Name, alias: s.Assign.IsValid(), text: source(s.Type)})
			case *ast.ValueSpec:
				terms = append(terms, term{kind: token.CONST, name: s.Names[0].Name, text: source(s.Type)})
			}
		}
	}
	if len(terms) < 15 {
		t.Fatalf("%d terms read", len(terms))
	}
	return terms
}

// checkTerms checks the package anew, with a variable of each term's type in it.
func checkTerms(t *testing.T, p *checked, terms []term) *types.Package {
	t.Helper()
	var b strings.Builder
	b.WriteString(`package kafkax
import ("context"; "net"; "time"; "github.com/segmentio/kafka-go"; "github.com/bi-common/kafkax/kafkaxpb")
var (_ context.Context; _ net.Conn; _ time.Time; _ kafka.Message; _ *kafkaxpb.ProducerConfig)
`)
	for i, term := range terms {
		fmt.Fprintf(&b, "var %s %s\n", termName(i), term.text)
	}
	file, err := parser.ParseFile(p.fset, "terms.go", b.String(), parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := p.check(file)
	if err != nil {
		t.Error(err)
	}
	return pkg
}

func termName(i int) string { return fmt.Sprint("contract", i) }

// lookup finds a function, type, constant or method; nil if it is not there.
func lookup(pkg *types.Package, owner, name string) types.Object {
	if owner == "" {
		return pkg.Scope().Lookup(name)
	}
	named := pkg.Scope().Lookup(owner)
	if named == nil {
		return nil
	}
	object, _, _ := types.LookupFieldOrMethod(types.NewPointer(named.Type()), true, pkg, name)
	if _, ok := object.(*types.Func); !ok {
		return nil
	}
	return object
}
