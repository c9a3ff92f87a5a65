#!/bin/sh
# Direct mode and a pipeline by the AWS CLI, as its user's guide writes it.
set -eu
cd "$(mktemp -d)"
mkdir code
printf 'def model_fn(d):\n    return None\ndef transform_fn(model, data, content_type, accept):\n    return (data if isinstance(data, str) else data.decode()) + "!", "text/csv"\n' > code/inference.py
tar czf model.tar.gz code
"$AWS" s3 mb s3://several > /dev/null
"$AWS" s3 cp model.tar.gz s3://several/model.tar.gz --no-progress > /dev/null
IMAGE=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3
part() { printf '{"ContainerHostname":"%s","Image":"%s","ModelDataUrl":"s3://several/model.tar.gz","Environment":{"SAGEMAKER_PROGRAM":"inference.py","SAGEMAKER_SUBMIT_DIRECTORY":"/opt/ml/model/code"}}' "$1" "$IMAGE"; }
for mode in Direct Serial; do
    "$AWS" sagemaker create-model --model-name $mode --execution-role-arn arn:aws:iam::123456789012:role/r \
        --containers "[$(part one),$(part two)]" --inference-execution-config Mode=$mode > /dev/null
    "$AWS" sagemaker create-endpoint-config --endpoint-config-name $mode \
        --production-variants "VariantName=A,ModelName=$mode,InstanceType=ml.m5.large,InitialInstanceCount=1" > /dev/null
    "$AWS" sagemaker create-endpoint --endpoint-name $mode --endpoint-config-name $mode > /dev/null
done
"$AWS" sagemaker wait endpoint-in-service --endpoint-name Direct
"$AWS" sagemaker wait endpoint-in-service --endpoint-name Serial
printf x > body
invoke() { "$AWS" sagemaker-runtime invoke-endpoint --content-type text/csv --body fileb://body "$@" out > /dev/null && cat out; }
[ "$(invoke --endpoint-name Serial)" = 'x!!' ]
[ "$(invoke --endpoint-name Direct --target-container-hostname two)" = 'x!' ]
if invoke --endpoint-name Direct 2> error; then exit 1; fi
grep -q 'one, two' error
echo done
