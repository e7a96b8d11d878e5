package flowcontrol

import (
	"context"
	"strings"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// PriorityLevelConfiguration defines flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration.
func PriorityLevelConfiguration() *object.Definition {
	return object.Kind[*flowcontrolv1.PriorityLevelConfiguration]{
		Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Kind: "PriorityLevelConfiguration",
		Resource: "prioritylevelconfigurations", Generation: true, Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New:     func() *flowcontrolv1.PriorityLevelConfiguration { return &flowcontrolv1.PriorityLevelConfiguration{} },
		NewList: func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		Columns: []object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration]{
			object.NameColumn[*flowcontrolv1.PriorityLevelConfiguration](),
			object.StringColumn("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], func(p *flowcontrolv1.PriorityLevelConfiguration) string { return string(p.Spec.Type) }),
			numberColumn("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc(), func(l *flowcontrolv1.LimitedPriorityLevelConfiguration) *int32 {
				return l.NominalConcurrencyShares
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
		ValidateStatusUpdate: func(o, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
			return validateLevelStatus(&o.Status)
		},
	}.Definition()
}

// numberColumn prints a number of a level with limits, if it has that.
func numberColumn(name string, doc map[string]string, get func(*flowcontrolv1.LimitedPriorityLevelConfiguration) *int32) object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration] {
	return object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration]{
		Name: name, Type: "string", Description: doc[strings.ToLower(name[:1])+name[1:]],
		Cell: func(p *flowcontrolv1.PriorityLevelConfiguration, _ time.Time) any {
			if p.Spec.Limited != nil {
				if n := get(p.Spec.Limited); n != nil {
					return int64(*n)
				}
			}
			return "<none>"
		},
	}
}

// queueColumn prints one number of a level that queues requests.
func queueColumn(name string, get func(*flowcontrolv1.QueuingConfiguration) int32) object.TypedColumn[*flowcontrolv1.PriorityLevelConfiguration] {
	return numberColumn(name, flowcontrolv1.QueuingConfiguration{}.SwaggerDoc(), func(l *flowcontrolv1.LimitedPriorityLevelConfiguration) *int32 {
		if l.LimitResponse.Queuing == nil {
			return nil
		}
		return new(get(l.LimitResponse.Queuing))
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
