// Package check is what the programs share: checks by name, what must hold, known records.
package check

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"time"
)

// WaitMax bounds every wait of a check.
const WaitMax = 30 * time.Second

// FirstTimestamp is the time of record 0, in milliseconds; record N is N later.
const FirstTimestamp = int64(1_700_000_000_000)

// Bootstrap is the broker's HOST:PORT, Prefix begins every name: both are arguments.
var Bootstrap, Prefix string

var only string

// Start reads the arguments: HOST:PORT, a prefix for names, a part of the checks' names.
func Start() {
	Bootstrap, Prefix = os.Args[1], os.Args[2]
	if len(os.Args) > 3 {
		only = os.Args[3]
	}
}

type failure struct{ reason string }

// Run makes one check: prints `ok NAME`, or `FAILED NAME: reason` if one of the functions below
// ended it. A panic of another kind is the program's own fault and ends it.
func Run(name string, body func()) {
	if !strings.Contains(name, only) {
		return
	}
	defer func() {
		if thrown := recover(); thrown != nil {
			failed, ok := thrown.(failure)
			if !ok {
				panic(thrown)
			}
			fmt.Printf("FAILED %s: %s\n", name, strings.ReplaceAll(failed.reason, "\n", " "))
		}
	}()
	body()
	fmt.Printf("ok %s\n", name)
}

// Require ends the check unless the condition holds.
func Require(holds bool, format string, arguments ...any) {
	if !holds {
		_, file, line, _ := runtime.Caller(1)
		fail(file, line, fmt.Sprintf(format, arguments...))
	}
}

// Done ends the check if there is an error.
func Done(err error, what string) {
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		fail(file, line, what+": "+err.Error())
	}
}

// Equal ends the check unless both are the same; %v decides.
func Equal(actual, expected any, what string) {
	one, other := fmt.Sprintf("%v", actual), fmt.Sprintf("%v", expected)
	if one != other {
		_, file, line, _ := runtime.Caller(1)
		fail(file, line, fmt.Sprintf("%s: %.300s instead of %.300s", what, one, other))
	}
}

// Eventually tries until the condition holds.
func Eventually(what string, condition func() bool) {
	for deadline := time.Now().Add(WaitMax); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, file, line, _ := runtime.Caller(1)
			fail(file, line, "still not true: "+what)
		}
	}
}

func fail(file string, line int, reason string) {
	file = file[strings.LastIndex(file, "/")+1:]
	panic(failure{fmt.Sprintf("%s (%s line %d)", reason, file, line)})
}

// A Record is what both libraries' records have in common; nil is not empty.
type Record struct {
	Key, Value  []byte
	HeaderNames []string
	Headers     [][]byte
	Timestamp   int64 // milliseconds
}

// NewRecord returns record `number`: keys, values and headers of all shapes, decided by it.
func NewRecord(number int) Record {
	record := Record{Timestamp: FirstTimestamp + int64(number)}
	if number%7 != 0 {
		record.Key = []byte(fmt.Sprintf("key-%d", number%101))
	}
	switch {
	case number%13 == 0:
	case number%11 == 0:
		record.Value = []byte{}
	default:
		record.Value = []byte(fmt.Sprintf("value %d %s", number, strings.Repeat("ß", number%150)))
	}
	for header := range number % 3 {
		record.HeaderNames = append(record.HeaderNames, fmt.Sprintf("header-%d", header))
		record.Headers = append(record.Headers, []byte(fmt.Sprintf("h%d", number)))
	}
	return record
}

// Same ends the check unless both records are.
func Same(actual, expected Record, number int) {
	Equal(show(actual), show(expected), fmt.Sprintf("record %d", number))
}

func show(record Record) string {
	text := fmt.Sprintf("%d %s %s", record.Timestamp, bytesOf(record.Key), bytesOf(record.Value))
	for index, name := range record.HeaderNames {
		text += fmt.Sprintf(" %s=%s", name, bytesOf(record.Headers[index]))
	}
	return text
}

func bytesOf(content []byte) string {
	if content == nil {
		return "nil"
	}
	return fmt.Sprintf("%q", content)
}

// Noise returns bytes that do not compress, the same in every run.
func Noise(length int) []byte {
	noise := make([]byte, length)
	rand.New(rand.NewSource(20_260_101)).Read(noise)
	return noise
}

// A Ledger takes what the members of a group read: of each partition all offsets, in order, once.
type Ledger struct {
	next  map[string]int64
	Count int
}

// Begin says where the reading of a partition starts, unless at 0.
func (l *Ledger) Begin(topic string, partition int32, offset int64) {
	if l.next == nil {
		l.next = map[string]int64{}
	}
	l.next[fmt.Sprintf("%s-%d", topic, partition)] = offset
}

// Add ends the check unless the offset is the next one and the value is "value OFFSET".
func (l *Ledger) Add(topic string, partition int32, offset int64, value []byte) {
	if l.next == nil {
		l.next = map[string]int64{}
	}
	name := fmt.Sprintf("%s-%d", topic, partition)
	Equal(offset, l.next[name], "next offset of "+name)
	Equal(string(value), fmt.Sprintf("value %d", offset), "its value")
	l.next[name]++
	l.Count++
}
