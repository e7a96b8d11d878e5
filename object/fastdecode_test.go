package object

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
)

// What is read the fast way is what the API's library reads, without complaint.
func FuzzFastDecode(f *testing.F) {
	for seed := range int64(20) {
		p, d := &corev1.Pod{}, &appsv1.Deployment{}
		filler(seed).Fill(p)
		filler(seed).Fill(d)
		for _, v := range []any{p, d} {
			if b, err := json.Marshal(v); err == nil {
				f.Add(b)
			}
		}
	}
	for _, s := range []string{
		`{"metadata":{"name":null,"labels":null,"Labels":{}}}`, `{"metadata":{"name":"a","name":"b"}}`, `{"spec":{"containers":[null,{}],"hostNetwork":null}}`,
		`{"spec":{"terminationGracePeriodSeconds":1.0,"priority":1e1}}`, `{"data":{"a":"Zm9v\n"}}`, `{"spec":{"x":1}} `, `{"metadata":{"creationTimestamp":null}}`,
		`{"spec":{"containers":[{"ports":[{"containerPort":-0}],"resources":{"limits":{"cpu":1,"memory":"1Gi"}}}]}}`, "{\"metadata\":{\"name\":\"\xff\"}}",
		`{"metadata":{"name":"\ud800"}}`, `{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[{"fieldsV1": { "f:a" : {} } }]}}`, `null`, `[]`, `{"metadata":[]}`,
		`{"webhooks":[{"timeoutSeconds":5,"rules":[{"operations":["*"],"scope":null}]}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(decodeBothWays)
}

// The same for what is almost right: valid documents with a few bytes changed.
func TestFastDecodeOfDamage(t *testing.T) {
	for seed := range int64(40) {
		p := &corev1.Pod{}
		filler(seed).Fill(p)
		valid, err := json.Marshal(p)
		if err != nil || len(valid) > 20_000 {
			continue
		}
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		for range 40 {
			data := slices.Clone(valid)
			for range 1 + r.IntN(2) {
				switch at := r.IntN(len(data)); r.IntN(4) {
				case 0:
					data[at] = byte(r.IntN(256))
				case 1:
					data = slices.Delete(data, at, at+1)
				case 2: // a piece twice: often a field
					end := at + r.IntN(len(data)-at)
					data = slices.Insert(data, at, data[at:min(end, at+100)]...)
				default:
					data[at] = `{}[]",:0123456789.e-ntfu\ `[r.IntN(26)]
				}
			}
			decodeBothWays(t, data)
		}
	}
}

func decodeBothWays(t *testing.T, data []byte) {
	types := []any{corev1.Pod{}, appsv1.Deployment{}, corev1.Secret{}, corev1.Service{}, corev1.ConfigMap{}, corev1.Event{}, admissionregistrationv1.ValidatingWebhookConfiguration{}}
	for _, example := range types {
		fast, slow := reflect.New(reflect.TypeOf(example)), reflect.New(reflect.TypeOf(example))
		if !fastDecode(fast.Interface(), data) {
			if !fast.Elem().IsZero() {
				t.Fatalf("%T: something is left of what could not be read: %+v", example, fast.Elem())
			}
			continue
		}
		strict, err := kjson.UnmarshalStrict(data, slow.Interface())
		if err != nil || len(strict) > 0 {
			t.Fatalf("%T: read, where the library says %v %v", example, err, strict)
		}
		if !reflect.DeepEqual(fast.Interface(), slow.Interface()) {
			t.Fatalf("%T:\nfast %+v\nslow %+v", example, fast.Elem(), slow.Elem())
		}
	}
}
