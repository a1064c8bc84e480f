use super::*;

fn table(text: &str) -> Result<DatasetConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn unknown_keys_are_rejected() {
    let shapes = "name = 's'\nsource = 'shapes'\nsplit = 'test'\nclasses = 'pairs'\n";
    assert!(table(&format!("{shapes}samples = 9\n")).is_ok());
    let error = table(&format!("{shapes}samples = 9\ntemplate = []\n")).unwrap_err();
    assert!(error.to_string().contains("template"), "{error}");
}

#[test]
fn shapes_have_their_own_class_names() {
    let table =
        table("name = 's'\nsource = 'shapes'\nsplit = 'test'\nclasses = 'shapes'\nsamples = 3\n")
            .unwrap();
    let dataset = table.open(16).unwrap();
    let (class_names, templates) = dataset.classes().unwrap();
    assert_eq!(class_names[3], "star");
    assert_eq!(templates, [DEFAULT_TEMPLATE]);
    assert_eq!(dataset.train_images().unwrap().len(), 3);
    assert!(dataset.captions().is_err());
}

#[test]
fn a_folder_provides_class_names_and_templates() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["0", "1"] {
        fs::create_dir(folder.path().join(class)).unwrap();
        fs::write(folder.path().join(class).join("a.png"), b"x").unwrap();
    }
    fs::write(folder.path().join("classnames.txt"), "zero\none\n").unwrap();
    fs::write(folder.path().join("templates.txt"), "the digit {c}\n\n{}\n").unwrap();
    let table = DatasetConfig::read(folder.path()).unwrap();
    let dataset = table.open(16).unwrap();
    let (class_names, templates) = dataset.classes().unwrap();
    assert_eq!(class_names, ["zero", "one"]);
    assert_eq!(templates, ["the digit {c}", "{}"]);

    fs::write(folder.path().join("classnames.txt"), "zero\n").unwrap();
    let error = table.open(16).unwrap_err().to_string();
    assert!(
        error.contains("1 class names for 2 classes (0, 1)"),
        "{error}"
    );
    fs::write(folder.path().join("classnames.txt"), "zero\none\n").unwrap();
    fs::write(folder.path().join("templates.txt"), "the digit\n").unwrap();
    let error = table.open(16).unwrap_err().to_string();
    assert!(error.contains("`the digit` has no placeholder"), "{error}");
}

fn csv_dataset(folder: &Path, test: &str, train: &str) -> Dataset {
    fs::write(folder.join("test.csv"), test).unwrap();
    fs::write(folder.join("train.csv"), train).unwrap();
    let file = folder.join("set.toml");
    let toml = format!(
        "name = 's'\nsource = 'csv'\npath = '{0}/test.csv'\ntrain_path = '{0}/train.csv'\n\
         label_column = 'label'\nclass_names = ['2', '10', 'x']\n",
        folder.display()
    );
    fs::write(&file, toml).unwrap();
    DatasetConfig::read(&file).unwrap().open(16).unwrap()
}

#[test]
fn training_labels_must_count_as_the_test_labels_do() {
    let folder = tempfile::tempdir().unwrap();
    let head = "filepath,label\n";
    let named = format!("{head}a,2\nb,10\nc,x\n");
    let dataset = csv_dataset(folder.path(), &named, &named);
    // Names in another order than the labels' are matched by name.
    assert_eq!(dataset.classes().unwrap().0, ["10", "2", "x"]);
    assert!(dataset.train_images().is_ok());
    let numbers = format!("{head}a,2\nb,0\n");
    let dataset = csv_dataset(folder.path(), &numbers, &named);
    let error = dataset.train_images().unwrap_err().to_string();
    assert!(
        error.contains("numbers in one split, names in the other"),
        "{error}"
    );
    let fewer = format!("{head}a,2\nb,10\n c,y\n");
    let dataset = csv_dataset(folder.path(), &named, &fewer);
    let error = dataset.train_images().unwrap_err().to_string();
    assert!(error.contains('x') && error.contains('y'), "{error}");
}
