// @@HEAD@@
// Lines for the build.gradle.kts of your app module.
android {
    androidResources {
        noCompress += "@@SUFFIX@@"  // the model is read in place
    }
}

dependencies {
    implementation("@@DEPENDENCY@@")
}
