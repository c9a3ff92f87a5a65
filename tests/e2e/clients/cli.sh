#!/bin/sh
# The AWS CLI, as a person types it. $AWS is the command.
set -eu
cd "$(mktemp -d)"
mkdir code
cat > code/inference.py <<'PY'
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data, content_type
PY
tar czf model.tar.gz code
$AWS sts get-caller-identity --query Account --output text
$AWS s3 mb s3://cli-bucket
$AWS s3 cp model.tar.gz s3://cli-bucket/models/model.tar.gz
$AWS s3 ls s3://cli-bucket/models/
$AWS sagemaker create-model --model-name cli --execution-role-arn arn:aws:iam::123456789012:role/cli \
    --primary-container Image=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3,ModelDataUrl=s3://cli-bucket/models/model.tar.gz
$AWS sagemaker create-endpoint-config --endpoint-config-name cli \
    --production-variants VariantName=AllTraffic,ModelName=cli,InstanceType=ml.m5.large,InitialInstanceCount=1
$AWS sagemaker create-endpoint --endpoint-name cli --endpoint-config-name cli
$AWS sagemaker wait endpoint-in-service --endpoint-name cli
printf 'hello' > body
$AWS sagemaker-runtime invoke-endpoint --endpoint-name cli --content-type text/plain --body fileb://body answer.txt
cat answer.txt
test "$(cat answer.txt)" = hello
$AWS sagemaker delete-endpoint --endpoint-name cli
$AWS s3 rm --recursive s3://cli-bucket
$AWS s3 rb s3://cli-bucket
echo done
