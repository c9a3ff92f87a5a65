#!/bin/sh
# Batch transform with the AWS CLI, as a person types it. $AWS is the command.
set -eu
cd "$(mktemp -d)"
mkdir code
cat > code/inference.py <<'PY'
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data.upper(), content_type
PY
tar czf model.tar.gz code
printf 'one\ntwo\n' > lines.csv
$AWS s3 mb s3://cli-batch
$AWS s3 cp model.tar.gz s3://cli-batch/model.tar.gz
$AWS s3 cp lines.csv s3://cli-batch/in/lines.csv
$AWS sagemaker create-model --model-name cli-batch --execution-role-arn arn:aws:iam::123456789012:role/cli \
    --primary-container Image=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3,ModelDataUrl=s3://cli-batch/model.tar.gz
$AWS sagemaker create-transform-job --transform-job-name cli-batch --model-name cli-batch \
    --transform-input 'DataSource={S3DataSource={S3DataType=S3Prefix,S3Uri=s3://cli-batch/in/}},ContentType=text/csv,SplitType=Line' \
    --transform-output S3OutputPath=s3://cli-batch/out,AssembleWith=Line \
    --transform-resources InstanceType=ml.m5.large,InstanceCount=1
while $AWS sagemaker describe-transform-job --transform-job-name cli-batch --query TransformJobStatus --output text | grep -q InProgress; do sleep 0.2; done
$AWS sagemaker wait transform-job-completed-or-stopped --transform-job-name cli-batch
$AWS sagemaker list-transform-jobs --status-equals Completed --query 'TransformJobSummaries[].TransformJobName' --output text | grep cli-batch
$AWS s3 cp s3://cli-batch/out/lines.csv.out - | grep ONE
echo done
