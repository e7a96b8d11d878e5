package flowcontrol

import (
	"context"

	"strconv"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/fill"
	"sagong/object"
)

// PriorityLevelConfiguration defines flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration.
func PriorityLevelConfiguration() *object.Definition {
	return object.Kind[*flowcontrolv1.PriorityLevelConfiguration]{
		Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Kind: "PriorityLevelConfiguration",
		Resource: "prioritylevelconfigurations", Generation: true, Status: true, RefuseUnconditionalUpdate: true,
		New:     func() *flowcontrolv1.PriorityLevelConfiguration { return &flowcontrolv1.PriorityLevelConfiguration{} },
		NewList: func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		Columns: []object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration]{
			object.NameColumn[*flowcontrolv1.PriorityLevelConfiguration](),
			object.StringColumn("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], func(p *flowcontrolv1.PriorityLevelConfiguration) string { return string(p.Spec.Type) }),
			object.StringColumn("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"], func(p *flowcontrolv1.PriorityLevelConfiguration) string {
				if p.Spec.Limited == nil || p.Spec.Limited.NominalConcurrencyShares == nil {
					return "<none>"
				}
				return strconv.Itoa(int(*p.Spec.Limited.NominalConcurrencyShares))
			}),
			queueColumn("Queues", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues }),
			queueColumn("HandSize", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize }),
			queueColumn("QueueLengthLimit", func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit }),
			object.AgeColumn[*flowcontrolv1.PriorityLevelConfiguration](),
		},
		Default: defaultPriorityLevel,
		PrepareCreate: func(_ context.Context, p *flowcontrolv1.PriorityLevelConfiguration) {
			p.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
		},
		Validate:       validatePriorityLevel,
		ValidateUpdate: func(o, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList { return validatePriorityLevel(o) },
	}.Definition()
}

// queueColumn prints one number of a level that queues requests.
func queueColumn(name string, get func(*flowcontrolv1.QueuingConfiguration) int32) object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration] {
	doc := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()[strings.ToLower(name[:1])+name[1:]]
	return object.StringColumn(name, doc, func(p *flowcontrolv1.PriorityLevelConfiguration) string {
		if p.Spec.Limited == nil || p.Spec.Limited.LimitResponse.Queuing == nil {
			return "<none>"
		}
		return strconv.Itoa(int(get(p.Spec.Limited.LimitResponse.Queuing)))
	})
}

func defaultPriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) {
	if e := p.Spec.Exempt; e != nil {
		fill.Ptr(&e.NominalConcurrencyShares, 0)
		fill.Ptr(&e.LendablePercent, 0)
	}
	if l := p.Spec.Limited; l != nil {
		fill.Ptr(&l.NominalConcurrencyShares, 30)
		fill.Ptr(&l.LendablePercent, 0)
		if q := l.LimitResponse.Queuing; q != nil {
			fill.Zero(&q.Queues, 64)
			fill.Zero(&q.HandSize, 8)
			fill.Zero(&q.QueueLengthLimit, 50)
		}
	}
}
